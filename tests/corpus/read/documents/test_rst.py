"""reStructuredText: what a block is, Sphinx's own roles and directives too."""

from __future__ import annotations

from sdretrieval.corpus.read.documents.rst import parse_rst
from tests.corpus.read.documents.said import C, H, L, P, T, said


def test_sphinxs_settings_are_no_text() -> None:
    assert said(parse_rst, ":orphan:\n:tocdepth: 2\n\n:author: Ann\n\nText.") == [(P, "author Ann"), (P, "Text.")]


def test_restructuredtext_title_and_paragraphs() -> None:
    text = """
        =========
        The Title
        =========

        .. a comment
           of two lines
        .. _target: http://a.b
        .. image:: x.png
           :alt: nothing

        See :func:`open <io.open>`, ``code``, *this* and `a page <http://a.b>`__::

            x = 1

            y = 2

        Part
        ----
        * item one
          goes on
        #. item two
    """
    assert said(parse_rst, text) == [
        (H, "The Title", 1),
        (P, "See open, code, this and a page:"),
        (C, "x = 1\n\ny = 2"),
        (H, "Part", 2),
        (L, "item one goes on"),
        (L, "item two"),
    ]


def test_restructuredtext_directives_and_definitions() -> None:
    text = """
        .. note:: Mind the *gap*.

           It is wide.

        .. code-block:: python
           :linenos:

           z = 3

        >>> 1 + 1
        2

        term
            Its definition.

        :param x: the thing
    """
    assert said(parse_rst, text) == [
        (P, "Mind the gap."),
        (P, "It is wide."),
        (C, "z = 3"),
        (C, ">>> 1 + 1\n2"),
        (P, "term"),
        (P, "Its definition."),
        (P, "param x the thing"),
    ]


def test_what_only_sphinx_knows_keeps_its_text() -> None:
    text = """
        .. function:: open(file, mode='r')
           :noindex:

           Opens a ``file``.

           .. versionadded:: 3.4
              The *mode* and __slots__.

        .. code-block:: python
           :emphasize-lines: 1

           z = 3

        .. toctree::

           other

        .. note::

           Inner
           =====

           A :ref:`title <target>`, |name|. [1]_

        .. [1] A footnote.
    """
    assert said(parse_rst, text) == [
        (P, "open(file, mode='r')"),
        (P, "Opens a file."),
        (P, "3.4"),
        (P, "The mode and __slots__."),
        (C, "z = 3"),
        (P, "Inner"),
        (P, "A title, name. 1"),
        (P, "1 A footnote."),
    ]


def test_restructuredtext_tables_and_quotations() -> None:
    text = """
        ====  =====
        a     b
        ====  =====
        c     d e
        ====  =====

        What follows is code. ::

            w = 4

        ..

            A quotation.

        ------

        +---+---+
        | f | g |
        +---+---+
    """
    assert said(parse_rst, text) == [
        (T, "a | b"),
        (T, "c | d e"),
        (P, "What follows is code."),
        (C, "w = 4"),
        (P, "A quotation."),
        (T, "f | g"),
    ]
