"""`duxnet doctor`: finds problems of the agent on this machine and says how to fix them."""
