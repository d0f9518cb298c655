"""One module a command or family of commands; slow libraries are imported when a command runs."""
