"""What does a person see and type?"""
