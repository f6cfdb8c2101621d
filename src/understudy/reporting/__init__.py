"""From a run folder to a terminal table, one honest sentence and one self-contained page."""
