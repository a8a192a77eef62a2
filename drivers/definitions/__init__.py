"""XML documents to typed objects and back: domain, checkpoint, backup and secret.

Definitions convert, they do not decide: whether a domain runs, an image can hold bitmaps or a file
exists is for a driver to know. The rules that join two documents live in `alignment.py`.
Nothing here may import trio, the store, or any one driver.
"""
