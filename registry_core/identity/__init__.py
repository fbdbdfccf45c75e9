"""Node keys, and signatures that prove who made a request, for whom, and that it was not changed.

Importing this package, or `files`, never loads `cryptography`: an agent with an embedded registry does not need it.
"""
