"""Who else does the work, each written as its own users would write it.

The ones with rules use this project's rules as a library; what differs is who runs them.
"""
