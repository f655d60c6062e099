"""What did we try, is it still true, did it help?"""
