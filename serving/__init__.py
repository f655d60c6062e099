"""Which segments is this user in now, why, and what do we show?"""
