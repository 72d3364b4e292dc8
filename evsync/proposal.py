"""A first configuration, proposed from what stores say of themselves: which types there are, by which key, with which
fields, how they refer to each other, and where they lie. Pure: looks in, a plan out; `proposal_text` writes it.

Whatever is guessed or cannot be decided is said: at its place in the file, and in a list of open points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from evsync.accessor import ForeignKey, Relations, Way
from evsync.errors import BadValue
from evsync.guessing import likeliest, may_refer_to, says_when_changed, type_of, unique_in
from evsync.values import read

GUESSED = "guessed"


class Look(msgspec.Struct, frozen=True):
    """What was seen of one type in one store. `columns` None: it does not exist yet and will be created. `doubtful`:
    columns whose type only values suggest. `named_by`: the option that leads to it where it is not called as the type.
    `generated`: columns that the store computes. `takes_zone`: its times may be declared to be in UTC."""

    store: str
    url: str
    type: str
    options: Mapping[str, str] = {}
    columns: Mapping[str, str | None] | None = None
    primary_key: tuple[str, ...] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    relations: Relations = Relations()
    doubtful: frozenset[str] = frozenset()
    named_by: str | None = None
    generated: frozenset[str] = frozenset()
    takes_zone: bool = False

    @property
    def id(self) -> str | None:
        """The one column of the primary key."""
        return self.primary_key[0] if len(self.primary_key) == 1 else None


class Seen(msgspec.Struct, frozen=True):
    """What was seen of one store. `variables`: what the URL takes from the environment, and what that was. `left_out`: what
    is no type, and why. `ways`: how its changes could be captured. `no_creation`: why what is missing could not be created."""

    store: str
    url: str
    variables: Mapping[str, str] = {}
    looks: Sequence[Look] = ()
    left_out: Mapping[str, str] = {}
    ways: Sequence[Way] = ()
    no_creation: str | None = None


class Key(msgspec.Struct, frozen=True):
    """A proposed key, and why it was chosen. `sure`: nobody has to look it over."""

    columns: tuple[str, ...]
    why: str
    sure: bool = True


class Place(msgspec.Struct):
    """A type's place in a store. `notes`: what is to be said there."""

    store: str
    options: Mapping[str, str]
    there: bool
    id: str | None = None
    fields: dict[str, str] = {}  # canonical → local, where they differ
    by_key: list[str] = []
    read_only: list[str] = []
    changed_at: str | None = None
    notes: list[str] = []


class Type(msgspec.Struct):
    """A type. `doubtful`: fields whose type is guessed."""

    name: str
    key: Key
    fields: dict[str, str]
    doubtful: frozenset[str]
    references: dict[str, str]
    places: list[Place]
    notes: list[str] = []


class Proposal(msgspec.Struct):
    """What is proposed. `types` stand in the order in which they are written: what others refer to comes first.
    `undecided`: what a person has to look over, each with its place in the file."""

    stores: Sequence[Seen]
    types: list[Type]
    undecided: list[str]


def propose(stores: Sequence[Seen]) -> Proposal:
    """The first look at a type gives its key, fields and references; the columns of later ones are matched to them by name."""
    types = _Types(_paired(stores))
    made = [types.proposed(name) for name in types.ordered()]
    return Proposal(stores, made, [*_open(made, stores)])


# -- keys ------------------------------------------------------------------------------------------------


def key_of(look: Look, avoid: frozenset[str] = frozenset()) -> Key:
    """The columns by which records of a look are told apart. A number that the store gives out is none between stores, if
    there is something else. `avoid`: columns that had better be no part of it."""
    primary, unique = look.primary_key, list(look.relations.unique)
    # A number that stands for another table's record was not given out by this one.
    numbered = look.relations.assigned and not any(
        primary == key.columns for key in look.relations.foreign_keys
    )
    if primary and not numbered:
        return Key(primary, f"its primary key in {look.store}")
    named = {likeliest([columns[0] for columns in unique if len(columns) == 1])}
    unique.sort(
        key=lambda columns: (bool(avoid.intersection(columns)), len(columns), not named.issuperset(columns))
    )
    if unique and not avoid.intersection(unique[0]):
        why = f"unique in {look.store}"
        return Key(unique[0], f"{why}, where {primary[0]!r} is only a number" if primary else why)
    if primary:
        return Key(primary, f"numbered by {look.store}: other stores will number differently", sure=False)
    return _guessed_key(look)


def _guessed_key(look: Look) -> Key:
    columns = list(look.columns or ())
    found = unique_in(look.samples, columns)
    if found:
        seen = f"no two of the first {len(look.samples)} records in {look.store} have the same"
        return Key(found, f"{GUESSED}: {seen}", sure=False)
    if look.samples:
        why = f"{GUESSED}, AND NOT UNIQUE: name the fields that tell records apart"
    else:
        why = f"{GUESSED} from its name: {look.store} holds no records"
    return Key((likeliest(columns),), why, sure=False)


def is_without_key(look: Look) -> bool:
    """Whether there is nothing by which its records are told apart."""
    named = look.primary_key or look.relations.unique or not look.samples
    return not named and unique_in(look.samples, list(look.columns or ())) is None


def changed_at_of(look: Look, key: Sequence[str]) -> tuple[str | None, list[str]]:
    """The column that says when a record was changed, if there is exactly one; and those that were not taken."""
    named = [column for column in look.columns or () if says_when_changed(column) and column not in key]
    dated = [column for column in named if _type(look, column) == "datetime"]
    return (dated[0], [c for c in named if c not in dated]) if len(dated) == 1 else (None, named)


def _type(look: Look, column: str) -> str:
    """The value type of a column. What is declared as text may be a moment none the less."""
    declared = (look.columns or {}).get(column)
    return declared or type_of(sample.get(column) for sample in look.samples)


def _offsets(look: Look, column: str) -> set[bool]:
    """Whether the times that stand in a column have an offset: some may, and others not."""
    if _type(look, column) != "datetime":
        return set()
    try:
        found = [
            read("datetime", value) for sample in look.samples if (value := sample.get(column)) is not None
        ]
    except BadValue:
        return set()
    return {value.tzinfo is not None for value in found}


# -- types -----------------------------------------------------------------------------------------------


def _paired(stores: Sequence[Seen]) -> dict[str, list[Look]]:
    """The looks by type. Two stores with one type each mean the same by it, whatever they call it.

    In a folder the type's name is the file's, so it cannot be called otherwise."""
    looks = [look for seen in stores for look in seen.looks]
    if len(stores) > 1 and all(len(seen.looks) == 1 and not seen.url.endswith("/") for seen in stores):
        return {names_of(stores[0].looks)[looks[0].type]: looks}
    types: dict[str, list[Look]] = {}
    for seen in stores:
        names = names_of(seen.looks)
        for look in seen.looks:
            own = names[look.type]
            # What is to be created is called as where it comes from.
            origin = next((n for n, held in types.items() if held[0].type == look.type), own)
            alike = (known for known in types if plain(known) == plain(own))
            name = origin if look.columns is None else own if look.url.endswith("/") else next(alike, own)
            types.setdefault(name, []).append(look)
    return types


def names_of(looks: Sequence[Look]) -> dict[str, str]:
    """What types are called: a table of another schema by its own name, unless there are two of that."""
    names = {look.type: look.options["table"] if "schema" in look.options else look.type for look in looks}
    told = list(names.values())
    return {type: name if told.count(name) == 1 else type.replace(".", "_") for type, name in names.items()}


class _Types:
    """The types that were seen, each with its looks, and what they are to each other."""

    def __init__(self, looks: Mapping[str, list[Look]]) -> None:
        self.looks = looks
        self._names = {(look.store, look.type): name for name, held in looks.items() for look in held}
        self._references: dict[tuple[str, str], str | None] = {}
        self.keys = {name: key_of(held[0], self._own(held[0])) for name, held in looks.items()}
        self.references = {name: self._references_of(held[0]) for name, held in looks.items()}

    def _own(self, look: Look) -> frozenset[str]:
        """The columns that refer to the look's own type: no key can be made of those."""
        return frozenset(
            column for key in look.relations.foreign_keys if key.target == look.type for column in key.columns
        )

    def _references_of(self, look: Look) -> dict[str, str]:
        id = look.id if look.id not in self.keys[self._names[look.store, look.type]].columns else None
        found = {
            column: target
            for column in look.columns or ()
            if column != id and (target := self._target(look, column)) is not None
        }
        return {c: t for c, t in found.items() if c not in self._looping(look, found)}

    def _looping(self, look: Look, found: Mapping[str, str]) -> set[str]:
        """The columns of the key by which it would be made of itself."""
        name = self._names[look.store, look.type]

        def leads_back(type: str, met: frozenset[str]) -> bool:
            if type == name:
                return True
            other = self._in(look.store, type)
            if other is None or type in met:
                return False
            further = (self._target(other, column) for column in self.keys[type].columns)
            return any(leads_back(next_, met | {type}) for next_ in further if next_ is not None)

        key = self.keys[name].columns
        return {c for c, target in found.items() if c in key and leads_back(target, frozenset())}

    def _in(self, store: str, type: str) -> Look | None:
        return next((look for look in self.looks[type] if look.store == store), None)

    def _target(self, look: Look, column: str, met: frozenset[tuple[str, str]] = frozenset()) -> str | None:
        """The type whose records a column of a look means. What refers to a column that itself refers to a third type
        means the third: there the value comes from."""
        for key, place in _pointing(look, column):
            name = self._names.get((look.store, key.target))
            other = None if name is None else self._in(look.store, name)
            if name is None or other is None:
                continue
            theirs = key.target_columns[place] if place < len(key.target_columns) else ""
            if (key.target, theirs) not in met:
                third = self._target(other, theirs, met | {(look.type, column)})
                if third is not None:
                    return third
            if len(key.columns) == 1 and theirs in (other.id, *self._single_key(name)):
                return name
        return None

    def _single_key(self, name: str) -> tuple[str, ...]:
        columns = self.keys[name].columns
        return columns if len(columns) == 1 else ()

    def value_type(self, name: str, field: str) -> str:
        """A reference holds a key, so it is of the key's type; the text of all its parts, if there are several."""
        target = self.references[name].get(field)
        if target is None:
            return _type(self.looks[name][0], field)
        key = self._single_key(target)
        return self.value_type(target, key[0]) if key else "str"

    def ordered(self) -> list[str]:
        """What others refer to first; else as they were found."""
        order: dict[str, None] = {}

        def put(name: str, above: frozenset[str]) -> None:
            if name not in order and name not in above:
                for target in self.references[name].values():
                    put(target, above | {name})
                order.setdefault(name)

        for name in self.looks:
            put(name, frozenset())
        return list(order)

    def proposed(self, name: str) -> Type:
        """The type, and its place in every store."""
        first, key = self.looks[name][0], self.keys[name]
        changed_at, _ = changed_at_of(first, key.columns)
        aside = {changed_at} | ({first.id} if first.id not in key.columns else set())
        fields = {
            column: self.value_type(name, column) for column in first.columns or () if column not in aside
        }
        references = {field: target for field, target in self.references[name].items() if field in fields}
        doubtful = frozenset(
            column
            for column in fields
            if column not in references
            and ((first.columns or {}).get(column) is None or column in first.doubtful)
        )
        type = Type(name, key, fields, doubtful, references, [], [*self._untold(first, references)])
        for look in self.looks[name]:
            type.places.append(self._place(type, look))
        return type

    def _untold(self, look: Look, references: Mapping[str, str]) -> Iterator[str]:
        """Of foreign keys that are no references."""
        for key in look.relations.foreign_keys:
            columns, target = ", ".join(key.columns), self._names.get((look.store, key.target))
            if len(key.columns) > 1:
                yield f"{columns} together refer to {key.target}: told by no reference"
            elif key.columns[0] in references:
                continue
            elif target is None:
                yield f"{columns} refers to {key.target}, which is left out"
            elif self._target(look, key.columns[0]) is not None:
                yield f"{columns} refers to {target}, whose key is made of keys of this type: told by no reference"
            else:
                theirs = ", ".join(key.target_columns)
                yield f"{columns} refers to {target} by {theirs}, which is neither its key nor its id"
        pointing = {column for key in look.relations.foreign_keys for column in key.columns}
        name = self._names[look.store, look.type]
        for column in look.columns or ():
            target = may_refer_to(column, (other for other in self.looks if other != name))
            if target is not None and column not in pointing and column != look.id:
                yield (
                    f"{column} may refer to {target}, though no foreign key says so; then write: references ="
                    f" {{ {column} = {target!r} }}, and its type as the key of {target} has it"
                )

    def _place(self, type: Type, look: Look) -> Place:
        if look.columns is None:
            return self._place_to_come(type, look)
        place = Place(look.store, look.options, True)
        if look.named_by and look.type != type.name:
            place.options = {look.named_by: look.type, **look.options}
        place.fields, missing = _matched(type.fields, look)
        local = {field: place.fields.get(field, field) for field in type.fields}
        keys = [local[field] for field in type.key.columns]
        place.id = look.id if look.id not in keys else None
        place.changed_at, candidates = changed_at_of(look, keys)
        if place.changed_at in local.values() and len(look.columns) > 1:
            used = {
                field for field, name in local.items() if name == place.changed_at and field not in missing
            }
            place.changed_at = None if used else place.changed_at
        if candidates:
            place.notes.append(f"changed_at: could be {' or '.join(candidates)}: not taken")
        if (
            not type.key.sure
            and look is not self.looks[type.name][0]
            and look.relations.assigned
            and look.id in keys
        ):
            place.notes.append(
                f"{look.id}: numbered by {look.store}, too: what has one number would be taken for one record"
            )
        if lost := [field for field in type.key.columns if field in missing]:
            place.notes.append(f"TO DO: say in `fields` which of its columns is the key's {', '.join(lost)}")
        for field, target in type.references.items():
            if field not in missing:
                self._by_key(place, look, field, local[field], target)
        place.read_only = [
            field
            for field, name in local.items()
            if name in look.generated and field not in (*missing, *type.key.columns)
        ]
        used_here = {name for field, name in local.items() if field not in missing}
        left = [c for c in look.columns if c not in used_here and c not in (place.id, place.changed_at)]
        if left:
            place.notes.append(f"not mapped: {', '.join(left)}")
        if lacks := [field for field in missing if field not in type.key.columns]:
            place.notes.append(f"has no column for: {', '.join(lacks)}")
        return place

    def _place_to_come(self, type: Type, look: Look) -> Place:
        """A table or file that will be created as the type's first one is."""
        place = Place(look.store, {}, False)
        place.by_key = [
            field for field in type.places[0].by_key if self._own_id(look.store, type.references[field])
        ]
        offsets = {field: _offsets(self.looks[type.name][0], field) for field in type.fields}
        if look.takes_zone and any(True in found for found in offsets.values()):
            place.options = {"zone": "utc"}
        naive = [field for field, found in offsets.items() if False in found]
        if naive and "://" in look.url:
            first = self.looks[type.name][0]
            way = (
                f'; if they are in UTC, set zone = "utc" in [stores.{first.store}]'
                if first.takes_zone
                else ""
            )
            place.notes.append(
                f"the times in {', '.join(naive)} have no offset: a column that insists on one refuses them{way}"
            )
        return place

    def _by_key(self, place: Place, look: Look, field: str, column: str, target: str) -> None:
        """Whether a reference's column holds the key, although the store has ids of its own."""
        id = self._own_id(look.store, target)
        if id is None:
            return
        pointing = [
            key.target_columns[at] for key, at in _pointing(look, column) if at < len(key.target_columns)
        ]
        if not pointing:
            place.notes.append(
                f"{column}: taken for the {id} of {target}; if it holds its key: by_key = [{field!r}]"
            )
        elif id not in pointing and set(self._key_in(look.store, target)).intersection(pointing):
            place.by_key.append(field)

    def _own_id(self, store: str, type: str) -> str | None:
        """What a store's own ids of a type stand in, if it does not know its records by the key."""
        look = self._in(store, type)
        return None if look is None or look.id in self._key_in(store, type) else look.id

    def _key_in(self, store: str, type: str) -> list[str]:
        """What a store calls the fields of a type's key."""
        look = self._in(store, type)
        columns = self.keys[type].columns
        found = {} if look is None else _matched(dict.fromkeys(columns, ""), look)[0]
        return [found.get(column, column) for column in columns]


def _pointing(look: Look, column: str) -> list[tuple[ForeignKey, int]]:
    """The foreign keys that a column is part of, and its place there; those of one column first."""
    keys = sorted(look.relations.foreign_keys, key=lambda key: len(key.columns))
    return [(key, key.columns.index(column)) for key in keys if column in key.columns]


def _matched(fields: Mapping[str, str], look: Look) -> tuple[dict[str, str], list[str]]:
    """Which of a look's columns hold fields under another name, and the fields for which it has none."""
    columns = look.columns or {}
    alike = {plain(column): column for column in columns}
    found = {field: field if field in columns else alike.get(plain(field)) for field in fields}
    renamed = {field: local for field, local in found.items() if local is not None and local != field}
    return renamed, [field for field, local in found.items() if local is None]


def plain(name: str) -> str:
    """A name without what spellings differ in: "Full Name", "full_name" and "fullName" are one."""
    return re.sub(r"[\W_]", "", name).lower()


# -- what is open ----------------------------------------------------------------------------------------


def _open(types: Sequence[Type], stores: Sequence[Seen]) -> Iterator[str]:
    for type in types:
        at = f"[types.{type.name}]"
        if not type.key.sure:
            yield f"{at} key = {', '.join(type.key.columns)}: {type.key.why}"
        if type.doubtful:
            yield f"{at} fields: the types of {', '.join(sorted(type.doubtful))} are {GUESSED}"
        yield from (f"{at} {note}" for note in type.notes)
        if len(stores) > 1 and len(type.places) == 1:
            yield f"{at} found only in {type.places[0].store}"
    for seen in stores:
        at = f"[stores.{seen.store}]"
        yield from (f"{at} {note}" for note in notes_on(seen))
        for type in types:
            for place in type.places:
                if place.store == seen.store:
                    at = f"[stores.{seen.store}.types.{type.name}]"
                    if place.changed_at is not None:
                        yield f"{at} changed_at = {place.changed_at}: {GUESSED} from its name; not compared, and not copied"
                    yield from (f"{at} {note}" for note in place.notes)


def notes_on(seen: Seen) -> Iterator[str]:
    """What is to be said of a store as a whole."""
    for variable in seen.variables:
        yield f"url: set the environment variable {variable} to the password, as it stood in the URL"
    for way in seen.ways:
        if way.needs:
            yield f'capture: {way.means} ("{way.mode}"), but not as it is: {"; ".join(way.needs)}'
        else:
            yield f'capture: {way.means} ("{way.mode}"); to set it up: evsync capture install {seen.store}'
            break  # which takes the best that can be had
    by_reason: dict[str, list[str]] = {}
    for name, why in seen.left_out.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        yield f"left out: {', '.join(names)} ({why})"
    if seen.no_creation is not None:
        yield f"what is not there yet cannot be created: {seen.no_creation}"
