"""The one exception that a person is meant to see."""


class UserError(Exception):
    """A mistake that the person who started the stage can mend; the text says what was wrong, where, and what to do.

    Doors print the text alone and exit with 1. Anything else that is raised is a defect of Tuneproof and keeps its
    traceback.
    """
