"""`make run`: the whole system on one machine, from one command until Ctrl-C."""
