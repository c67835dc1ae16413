"""The command line ``segic``: argparse alone, until the arguments of a command are checked.

Importing ``segic_d2`` registers everything and takes seconds, so that commands import it inside
their functions.
"""
