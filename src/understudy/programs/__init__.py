"""Programs: one file a command. Each strings the rooms together."""
