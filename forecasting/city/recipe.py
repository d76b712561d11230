"""Fitting: how a city's forecaster is trained, fit by fit.

Epochs are chosen by the validation days; then the networks that serve are trained anew on these days
too, for as many epochs as were found. Several members, which differ in their seed, make one forecaster.
Where windows are many, a final fit would learn next to nothing new: its time goes to a second kind of
networks, which see frames of the flow alone and forecast the flow itself. Both kinds err differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from forecasting.covariates.config import MANY as MANY_WINDOWS
from forecasting.covariates.config import PLAIN, ContextConfig
from forecasting.networks import DEFAULT, entry_of
from forecasting.training.state import TrainingConfig
from forecasting.trees import forecaster as trees

USUAL = TrainingConfig(epochs=6, batch=32, average=0.99, loss="huber", patience=3)
"""How networks of cities are trained unless something else is asked for."""
FEWEST, ENOUGH = 2, 400_000
"""Epochs that a fit has at least, and windows that it sees in all after which it has no more of them."""
LEAST, MOST_EPOCHS = 16_000, 60
"""Windows that a fit of few weeks sees in all, and epochs that it has for it at most."""
TIME_FOR_TREES, GROWN_IN = 5.0, 2.0
"""Minutes of a budget from which on trees are grown too, and how many of them they take."""
MEMBERS, OF_MANY, MANY = 3, 2, 150_000
"""Members, and where windows are many of each kind: one if all would see more than so many in an epoch."""


@dataclass(frozen=True)
class Recipe:
    """What a city's forecaster is made by.

    Attributes:
        network: key in `NETWORKS`; it is built in its quick size.
        context: what the network is shown. None: what pays with the number of windows that there are,
            `without` some parts, `also` with others, and those `swapped` the other way.
        training: of each fit; its `minutes` are for all of them together.
        members: networks of each kind, whose mean is the forecast; their seeds follow one another. None:
            by the number of windows that there are.
        epochs: of each fit, at most, a third more on frames alone. None: by the number of windows; those
            of `training` where they are neither few nor many.
        final: whether what serves is trained on the validation days too. None: where windows are few.
        until: newest slot that is known, ISO 8601, UTC; "" for all that is stored.
        held: days at the end that no fit sees; None: the city's test days.
        start: version whose weights the fits begin with where they fit; "" for none.
        trees: whether trees have a share in the forecast. None: where scikit-learn is installed and there
            are `TIME_FOR_TREES` minutes or more.
        plain: whether networks that see frames of the flow alone have a share in the forecast. None:
            where windows are many.
        optimizer: key in `OPTIMIZERS`, for the training's. None: Muon where windows are many.
    """

    network: str = DEFAULT
    context: ContextConfig | None = None
    training: TrainingConfig = USUAL
    members: int | None = None
    final: bool | None = None
    epochs: int | None = None
    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    swapped: tuple[str, ...] = ()
    until: str = ""
    held: int | None = None
    start: str = ""
    trees: bool | None = None
    plain: bool | None = None
    optimizer: str | None = None

    def __post_init__(self) -> None:
        ContextConfig().changed(without=self.without, also=(*self.also, *self.swapped))
        if both := sorted({*self.without} & {*self.also}):
            raise ValueError(f"{both[0]!r} cannot be switched off and on at once")
        if self.members is not None and self.members < 1:
            raise ValueError(f"{self.members} members are less than 1")

    def settled(self, count: int) -> "Recipe":
        """Returns the recipe with all that follows from a number of windows to train on.

        With many windows members differ less, and each takes longer.
        """
        many = count >= MANY_WINDOWS
        few = max(self.training.epochs, min(-(-LEAST // count), MOST_EPOCHS))
        long = entry_of(self.network).epochs
        most = max(self.training.epochs, long) if many else few
        paying = min(max(FEWEST, -(-ENOUGH // count)), most)
        epochs = self.epochs or paying
        optimizer = self.optimizer or ("muon" if many else USUAL.optimizer)
        training = replace(self.training, epochs=epochs, optimizer=optimizer)
        usual = ContextConfig.usual(count).changed(without=self.without, also=self.also)
        other = {name: not getattr(usual, name) for name in self.swapped}
        context = self.context or replace(usual, **other)
        plain = (many if self.plain is None else self.plain) and context != PLAIN
        each = OF_MANY if many else MEMBERS
        members = self.members or (each if count * (1 + plain) * each <= MANY else 1)
        grown, minutes = self.trees, self.training.minutes
        if grown is None:
            grown = trees.installed() and (minutes is None or minutes >= TIME_FOR_TREES)
        return replace(
            self,
            context=context,
            training=training,
            members=members,
            epochs=epochs,
            trees=grown,
            plain=plain,
            optimizer=optimizer,
            final=not many if self.final is None else self.final,
        )

    @classmethod
    def asked(
        cls,
        *,
        network: str | None = None,
        without: Sequence[str] = (),
        also: Sequence[str] = (),
        members: int | None = None,
        final: bool | None = None,
        epochs: int | None = None,
        trees: bool | None = None,
        plain: bool | None = None,
        optimizer: str | None = None,
        **training: Any,
    ) -> "Recipe":
        """Returns the usual recipe but for what is asked for; None asks for nothing.

        Args:
            network: key in `NETWORKS`.
            without: usual parts of the context that are switched off.
            also: parts that are switched on.
            members: networks of each kind.
            epochs: of each fit, a third more on frames alone.
            final: whether what serves is trained on the validation days too.
            trees: whether trees have a share in the forecast.
            plain: whether networks on frames alone have one.
            optimizer: key in `OPTIMIZERS`.
            training: fields of `TrainingConfig`.

        Raises:
            ValueError: what is asked for does not go together.
        """
        changes = {name: value for name, value in training.items() if value is not None}
        return cls(
            network or DEFAULT,
            training=replace(USUAL, **changes),
            members=members,
            final=final,
            epochs=epochs,
            without=tuple(without),
            also=tuple(also),
            trees=trees,
            plain=plain,
            optimizer=optimizer,
        )

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Recipe":
        """Returns the recipe of fields as `asdict` gives them and JSON holds them."""
        context = fields["context"] and ContextConfig(**fields["context"])
        training = TrainingConfig(**fields["training"])
        names = {key: tuple(fields[key]) for key in ("without", "also", "swapped")}
        # Recipes from before there was a choice had the first of each.
        own = {"plain": False, "optimizer": "adamw", **fields, **names}
        own |= {"context": context, "training": training}
        return cls(**own)
