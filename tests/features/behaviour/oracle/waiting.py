"""Waiting: what has to follow within a time, or must not: clicks, carts, funnels."""

from tests.features.behaviour.oracle.history import NAN, SECOND, History, microseconds, named


class Waiting(History):
    """What is told of what came, or did not come, in time."""

    def put_rage_clicks(self, values, what, window, entry):
        within, name = microseconds(entry["within"]), what
        event, prop = name.split(".")
        on = [e for e in self.of(event, None) if prop in e["properties"]]
        raging = 0
        for place, click in enumerate(on):
            before = [e for e in on[:place] if e["ts"] >= click["ts"] - within]
            same = [e for e in before if e["properties"][prop] == click["properties"][prop]]
            raging += click in self.of(event, window) and len(same) + 1 >= entry["clicks"]
        values[f"rage_clicks_{name.replace('.', '_')}_{window}"] = float(raging)

    def put_dead_clicks(self, values, what, window, entry):
        within = microseconds(entry["within"])
        over = [e for e in self.of(what, window) if self.at >= e["ts"] + within]
        dead = [e for e in over if not any(e["ts"] < f["ts"] <= e["ts"] + within for f in self.recent)]
        values[f"dead_clicks_{what}_{window}"] = float(len(dead))

    def put_abandoned_carts(self, values, what, window, entry):
        within, recent = microseconds(what.get("within", "1d")), self.recent
        left = 0
        for addition in self.of(what["added"], window):
            end, place = addition["ts"] + within, recent.index(addition)
            again = any(self.is_a(e, what["added"]) and e["ts"] <= end for e in recent[place + 1 :])
            bought = any(self.is_a(e, what["bought"]) and addition["ts"] < e["ts"] <= end for e in recent)
            left += self.at >= end and not again and not bought
        values[f"{named('abandoned_carts', entry)}_{window}"] = float(left)

    def put_cart_value(self, values, what, _, entry):
        price, total = self.plan.property(what["price"]).factor, 0
        quantity = self.plan.property(what["quantity"]).factor if "quantity" in what else 1
        for event in self.recent:
            said = event["properties"]
            if self.is_a(event, what["bought"]):
                total = 0
                continue
            sign = self.is_a(event, what["added"]) - ("removed" in what and self.is_a(event, what["removed"]))
            pieces = round(said.get(what.get("quantity"), 1) * quantity)
            total += sign * pieces * round(said.get(what["price"], 0) * price)
        values[named("cart_value", entry)] = float(total) / float(price * quantity)

    def furthest(self, names, within, window):
        """The most steps that can be taken from any event of the first kind, by the next event of each later kind."""
        events, furthest = self.of("any", window), 0
        for place, start in enumerate(events):
            step = 0
            for event in events[place:]:
                if step < len(names) and event["ts"] <= start["ts"] + within and self.is_a(event, names[step]):
                    step += 1
                elif step == 0:
                    break
            furthest = max(furthest, step)
        return furthest

    def attempts(self, names, within, window):
        """Every attempt that began in the window: the instants of its steps, and whether a newer one took its place.

        Of those that wait for an event the newest goes on, and takes the place of those waiting where it gets to.
        """
        attempts = []
        for event in self.of("any", window):
            for step in reversed(range(len(names))):
                if not self.is_a(event, names[step]):
                    continue
                ready = [a for a in attempts if len(a["steps"]) == step and event["ts"] <= a["steps"][0] + within]
                ready = [a for a in ready if not a["replaced"]][-1:] if step else [{"steps": [], "replaced": False}]
                for attempt in ready:
                    for other in attempts:
                        in_time = event["ts"] <= other["steps"][0] + within
                        if len(other["steps"]) == step + 1 and step + 1 < len(names) and in_time:
                            other["replaced"] = True
                    attempt["steps"].append(event["ts"])
                    attempts += [] if step else [attempt]
        return attempts

    def put_funnel(self, values, names, window, entry):
        within = microseconds(entry["within"])
        called = entry.get("as", f"{names[0]}_{names[-1]}")

        def incomplete(attempts):
            over = [a for a in attempts if len(a["steps"]) < len(names) and self.at >= a["steps"][0] + within]
            return [a["steps"] for a in over if not a["replaced"]][-1:]

        attempts = self.attempts(names, within, window)
        values[f"funnel_furthest_{called}_{window}"] = float(self.furthest(names, within, window))
        dropoff = [float(len(steps) + 1) for steps in incomplete(attempts)]
        values[f"funnel_dropoff_{called}_{window}"] = dropoff[0] if dropoff else NAN
        for step in range(1, len(names)):
            took = [a["steps"][step] - a["steps"][step - 1] for a in attempts if len(a["steps"]) > step]
            values[f"funnel_step_{step + 1}_s_{called}_{window}"] = float(took[-1]) / SECOND if took else NAN
        since = [float(self.at - steps[-1]) / SECOND for steps in incomplete(self.attempts(names, within, None))]
        values[f"funnel_since_incomplete_{called}_s"] = since[0] if since else NAN
