"""The only place that knows both bytes and machines: one Trio process that answers clients."""
