"""The archiver: turns a feed's stream into sealed segments, their evidence and a daily manifest."""
