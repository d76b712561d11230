"""Files of others are opened in a child process with limits, for they may claim or name anything."""
