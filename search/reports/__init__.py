"""The parts of a search's page."""
