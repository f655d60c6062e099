"""How do facts become a model, and how good is it honestly?"""
