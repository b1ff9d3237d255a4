"""The rules of meetings, once for every backend: what an act changes, or why it is refused. They are pure.

A backend loads the meeting under a lock, asks `rules.decide`, and writes its answer in the same transaction.

The turns of a meeting are numbered from 1 and rise by one, and one is current while the meeting is active. An act that
ends the current turn begins the next one, or a *selection*: a turn of the host in which nobody speaks and the host's
process names the next speaker.
"""
