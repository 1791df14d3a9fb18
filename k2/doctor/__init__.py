"""Checks of everything that the job depends on, each with what to fix; they change nothing."""
