"""Bytes to typed messages and back: libvirt's wire, pure and synchronous.

Nothing here opens a socket, waits, or knows what a domain is.
"""
