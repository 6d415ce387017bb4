"""What is known of how long jobs take, while more is learned."""

from bot.estimates import Estimates, Run


def test_more_may_be_learned_while_another_thread_looks() -> None:
    estimates = Estimates()

    class Meanwhile(str):
        """A server's name; a look at it is when the other thread learns."""

        __slots__ = ()

        def __hash__(self) -> int:
            estimates.learn(Run("txt2img", 20, "two", 9.0))
            return super().__hash__()

    estimates.learn(Run("txt2img", 20, "one", 3.0))
    estimates.learn(Run("txt2img", 20, Meanwhile("one"), 3.0))

    assert estimates.seconds("txt2img", 20) == 3.0
    assert estimates.seconds("txt2img", 20) == 6.0, "and of it something is known then"
