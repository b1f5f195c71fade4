"""One module per sub-command; the only place that sees a configuration object."""
