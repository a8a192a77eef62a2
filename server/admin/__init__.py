"""The administration socket, which virt-admin speaks to: clients, limits, logs, life of the daemon.

`house` says what there is to administer, `calls` answers, `connection` serves one caller.
"""
