"""Tables, figures and a page from the ``result.json`` files of many runs."""
