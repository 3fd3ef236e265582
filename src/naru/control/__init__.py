"""The admin API: what operators, the command line and the console see and change."""
