"""What an operator does with the data as a whole: back it up, restore it, move it elsewhere.

Not what a server does by itself. Each of these ends with data that was checked, or says why not
and leaves what was there as it was.
"""
