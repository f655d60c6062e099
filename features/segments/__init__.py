"""The segment language: conditions on what a user did, exact at any instant, with the events that made them so."""
