"""What all rooms share: exit statuses, the command line, the console, files, checks."""
