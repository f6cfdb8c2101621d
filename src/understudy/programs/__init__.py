"""Programs: a file for each command, with the public function of the same name."""
