"""Node keys, and what is proven with them: who made a request, to whom, and that nobody changed it.

Importing this package, or `files`, never loads `cryptography`: an agent with an embedded registry does without.
"""
