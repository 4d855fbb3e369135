"""Models, data and training for experiments with learning rules, on localgrad's public names alone.

Needs the ``experiments`` extra: ``pip install 'localgrad[experiments]'``.
"""
