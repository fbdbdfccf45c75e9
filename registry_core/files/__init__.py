"""Files that are written completely or not at all, and locks that end with their process."""
