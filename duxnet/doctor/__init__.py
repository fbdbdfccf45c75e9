"""What is wrong with the agent on this machine, and what to do about it: `duxnet doctor`."""
