"""The command line: one file of verbs each, over the same pipelines as the dashboard and the scheduler."""
