class CommandError(Exception):
    """What went wrong, in words for the person who typed the command. Ends it with exit code 1."""
