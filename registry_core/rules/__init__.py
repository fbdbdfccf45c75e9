"""Pure decisions. Time comes in as an argument; nothing here does I/O, reads a clock or logs."""
