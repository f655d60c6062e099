"""What did this user do, as numbers and as true or false, as of an instant?"""
