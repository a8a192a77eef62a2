"""Faults on purpose: rules that say what goes wrong, where, and how often.

The engine is asked at certain points whether something is to happen there; whoever asks does it.
The package knows no wire and no hypervisor.
"""
