"""The world that Pocket knows: objects, backgrounds, styles, and the sentences that describe them.

A *scene* is plain data, drawn from a seed; a *caption* is one of many sentences that say what a scene shows.
The design decision: everything a scene leaves open is decided by a rule that a sentence can rely on ("a cat and
a dog" has the cat on the left, an unnamed background is the object's home), because a small model learns rules
quickly and coin flips never. `draw.py` turns scenes into pictures; nothing here needs a font or torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HANDS",
    "PLACES",
    "RELATIONS",
    "STYLES",
    "WORLD",
    "Item",
    "Kind",
    "Scene",
    "caption",
    "held_out",
    "objects",
    "random_scene",
    "words",
]


@dataclass(frozen=True)
class Kind:
    """One kind of object: its names, its glyph, where it lives, and whether it comes in other colours."""

    name: str
    plural: str
    glyph: str
    home: str
    tint: bool


# name, plural, glyph, home background, "t" where a colour word may change it. The order is the curriculum: the
# `pocket2` preset learns the first 120, `gpu` all of them.
_TABLE = """
cat cats 🐈 meadow t|dog dogs 🐕 meadow t|horse horses 🐎 meadow t|cow cows 🐄 meadow|pig pigs 🐖 meadow
rabbit rabbits 🐇 meadow t|elephant elephants 🐘 desert t|fox foxes 🦊 snow|lion lions 🦁 desert|panda pandas 🐼 meadow
penguin penguins 🐧 snow|owl owls 🦉 night|duck ducks 🦆 sea|frog frogs 🐸 meadow t|turtle turtles 🐢 beach
fish fishes 🐠 sea t|whale whales 🐳 sea|octopus octopuses 🐙 sea t|crab crabs 🦀 beach t|butterfly butterflies 🦋 meadow t
bee bees 🐝 meadow|snail snails 🐌 meadow|giraffe giraffes 🦒 desert|dinosaur dinosaurs 🦕 desert t
car cars 🚗 city t|bus buses 🚌 city t|bicycle bicycles 🚲 city t|airplane airplanes ✈️ sea
rocket rockets 🚀 night t|boat boats ⛵ sea t|train trains 🚂 city|helicopter helicopters 🚁 city t
apple apples 🍎 white t|banana bananas 🍌 white|strawberry strawberries 🍓 white|grapes grapes 🍇 white
pineapple pineapples 🍍 white|carrot carrots 🥕 white|mushroom mushrooms 🍄 meadow t|pizza pizzas 🍕 white
hamburger hamburgers 🍔 white|cake cakes 🎂 pink|donut donuts 🍩 pink t|tree trees 🌳 meadow t
palm_tree palm_trees 🌴 beach|cactus cactuses 🌵 desert|sunflower sunflowers 🌻 meadow|rose roses 🌹 pink t
snowman snowmen ⛄ snow|house houses 🏠 meadow t|castle castles 🏰 meadow|umbrella umbrellas ☂️ beach t
balloon balloons 🎈 sea t|gift gifts 🎁 white t|ball balls ⚽ meadow|guitar guitars 🎸 white t
clock clocks ⏰ white t|key keys 🔑 gray t|cup cups ☕ white t|crown crowns 👑 purple|shoe shoes 👟 gray t
robot robots 🤖 city|ghost ghosts 👻 night t|heart hearts ❤️ pink t
tiger tigers 🐅 meadow|zebra zebras 🦓 desert|camel camels 🐫 desert|monkey monkeys 🐒 meadow|sheep sheep 🐑 meadow
mouse mice 🐁 meadow t|hedgehog hedgehogs 🦔 meadow|bear bears 🐻 snow|koala koalas 🐨 meadow|chick chicks 🐥 meadow
flamingo flamingos 🦩 beach|parrot parrots 🦜 beach t|swan swans 🦢 sea|peacock peacocks 🦚 meadow|dolphin dolphins 🐬 sea
shark sharks 🦈 sea|ladybug ladybugs 🐞 meadow|wolf wolves 🐺 snow|unicorn unicorns 🦄 meadow|dragon dragons 🐉 night t
truck trucks 🚚 city|tractor tractors 🚜 meadow|motorcycle motorcycles 🏍️ city t|ship ships 🚢 sea|ufo ufos 🛸 night
lemon lemons 🍋 white|pear pears 🍐 white|cherry cherries 🍒 white|watermelon watermelons 🍉 white|corn corns 🌽 white
broccoli broccolis 🥦 white|avocado avocados 🥑 white|cheese cheeses 🧀 white|cookie cookies 🍪 white|cupcake cupcakes 🧁 pink t
popcorn popcorns 🍿 white|teapot teapots 🫖 white t|tulip tulips 🌷 meadow t|leaf leaves 🍁 meadow t|sun suns 🌞 sea
moon moons 🌙 night|star stars ⭐ night t|cloud clouds ☁️ sea|rainbow rainbows 🌈 meadow|volcano volcanoes 🌋 desert
tent tents ⛺ meadow t|drum drums 🥁 white|violin violins 🎻 white|trumpet trumpets 🎺 white|camera cameras 📷 gray
book books 📕 white t|pencil pencils ✏️ white|hat hats 🎩 gray t|diamond diamonds 💎 purple t|trophy trophies 🏆 purple
pumpkin pumpkins 🎃 night|orange oranges 🍊 white|peach peaches 🍑 white|tomato tomatoes 🍅 white|eggplant eggplants 🍆 white
potato potatoes 🥔 white|bread breads 🍞 white|egg eggs 🥚 white|lollipop lollipops 🍭 pink t|taco tacos 🌮 white
hotdog hotdogs 🌭 white|sandwich sandwiches 🥪 white|croissant croissants 🥐 white|pretzel pretzels 🥨 white|sushi sushis 🍣 white
chocolate chocolates 🍫 pink|leopard leopards 🐆 desert|kangaroo kangaroos 🦘 desert|hippo hippos 🦛 meadow|rhino rhinos 🦏 desert
gorilla gorillas 🦍 meadow|goat goats 🐐 meadow|hamster hamsters 🐹 meadow|squirrel squirrels 🐿️ meadow|bat bats 🦇 night
rooster roosters 🐓 meadow|eagle eagles 🦅 desert|snake snakes 🐍 desert t|lizard lizards 🦎 desert t|crocodile crocodiles 🐊 beach
seal seals 🦭 snow|shrimp shrimps 🦐 sea|lobster lobsters 🦞 sea t|squid squids 🦑 sea t|ant ants 🐜 meadow|spider spiders 🕷️ night
scorpion scorpions 🦂 desert|caterpillar caterpillars 🐛 meadow|cricket crickets 🦗 meadow|deer deer 🦌 snow|beaver beavers 🦫 meadow
otter otters 🦦 sea|sloth sloths 🦥 meadow|raccoon raccoons 🦝 meadow|skunk skunks 🦨 meadow|mammoth mammoths 🦣 snow
bison bisons 🦬 meadow|llama llamas 🦙 desert|donkey donkeys 🫏 meadow|ambulance ambulances 🚑 city|taxi taxis 🚕 city
scooter scooters 🛵 city t|tram trams 🚋 city|canoe canoes 🛶 sea|anchor anchors ⚓ sea|satellite satellites 🛰️ night
parachute parachutes 🪂 sea t|skateboard skateboards 🛹 city|pine pines 🌲 snow|clover clovers 🍀 meadow|bouquet bouquets 💐 pink
snowflake snowflakes ❄️ snow|flame flames 🔥 night|mountain mountains 🏔️ snow|church churches ⛪ meadow|factory factories 🏭 city
lighthouse lighthouses 🗼 sea|fountain fountains ⛲ city|tower towers 🗽 sea|chair chairs 🪑 white|bed beds 🛏️ white
couch couches 🛋️ white t|lamp lamps 💡 gray|door doors 🚪 white t|candle candles 🕯️ night|bell bells 🔔 white
scissors scissors ✂️ white|hammer hammers 🔨 gray|axe axes 🪓 gray|magnet magnets 🧲 gray|telescope telescopes 🔭 night
microscope microscopes 🔬 white|phone phones 📱 gray|laptop laptops 💻 gray|television televisions 📺 gray|radio radios 📻 gray
piano pianos 🎹 white|microphone microphones 🎤 gray|basketball basketballs 🏀 city|football footballs 🏈 meadow
medal medals 🏅 purple|dice dice 🎲 green|kite kites 🪁 sea t|doll dolls 🪆 pink|teddy teddies 🧸 pink t|shirt shirts 👕 white t
dress dresses 👗 pink t|boot boots 👢 gray t|glove gloves 🧤 snow t|scarf scarves 🧣 snow t|backpack backpacks 🎒 white t
ring rings 💍 purple|skull skulls 💀 night t|alien aliens 👽 night t
"""


def _kind(row: str) -> Kind:
    name, plural, glyph, home, *tint = row.split()
    return Kind(name.replace("_", " "), plural.replace("_", " "), glyph, home, tint == ["t"])


WORLD: tuple[Kind, ...] = tuple(
    _kind(row) for line in _TABLE.split("\n") if line for row in line.split("|")
)


def objects(count: int) -> tuple[Kind, ...]:
    """The first `count` kinds of object, which is what a preset of that size learns."""
    if not 1 <= count <= len(WORLD):
        raise ValueError(
            f"{count} objects were asked for; the world holds {len(WORLD)}: choose 1 to {len(WORLD)}."
        )
    return WORLD[:count]


# colour words and their sRGB values in 0..1; the first ten are backgrounds, and all but gray can colour an object
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.16, 0.18),
    "orange": (0.97, 0.55, 0.13),
    "yellow": (0.98, 0.84, 0.22),
    "green": (0.24, 0.66, 0.32),
    "blue": (0.18, 0.42, 0.85),
    "purple": (0.52, 0.28, 0.72),
    "pink": (0.97, 0.62, 0.74),
    "white": (0.96, 0.95, 0.93),
    "black": (0.12, 0.12, 0.14),
    "gray": (0.58, 0.60, 0.62),
}
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on a beach", "on the beach", "at the beach"),
    "night": ("under a night sky", "at night", "under the stars", "in the night"),
    "snow": ("in the snow", "in a snowy landscape", "in winter"),
    "meadow": ("in a meadow", "on a meadow", "on the grass", "in a green field"),
    "sea": ("in the sea", "at sea", "in the ocean", "on the water"),
    "desert": ("in the desert", "in a desert", "on sand dunes"),
    "city": ("in a city at dusk", "in the city", "in a city", "in front of a skyline"),
}
BACKGROUNDS: tuple[str, ...] = (*COLOURS, *PLACES)
# style → ways to write it as a clause, and as a noun that takes "of"
STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((), ("picture", "photo", "image", "illustration", "emoji")),
    "pencil sketch": (
        ("pencil sketch", "sketch", "pencil drawing", "in pencil"),
        ("pencil sketch", "sketch", "pencil drawing"),
    ),
    "watercolor": (
        ("watercolor", "watercolour", "watercolor painting", "in watercolor"),
        ("watercolor", "watercolour", "watercolor painting"),
    ),
    "oil painting": (("oil painting", "oil on canvas", "in oil"), ("oil painting", "painting")),
    "pixel art": (
        ("pixel art", "8-bit", "in pixel art style", "pixelated"),
        ("pixel art", "pixel art picture"),
    ),
    "pop art": (
        ("pop art", "comic style", "in pop art style", "comic"),
        ("pop art picture", "comic", "pop art"),
    ),
    "neon": (("neon", "neon lights", "neon sign", "glowing neon"), ("neon sign", "neon picture")),
    "stained glass": (
        ("stained glass", "stained glass window", "in stained glass"),
        ("stained glass window", "stained glass"),
    ),
    "blueprint": (
        ("blueprint", "technical drawing", "as a blueprint"),
        ("blueprint", "technical drawing"),
    ),
}
# the same objects by another hand (`training/art.py` says whose), written like a style; the first Pocket knows none
HANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "flat icon": (("flat icon", "flat design", "as a flat icon"), ("flat icon",)),
    "cartoon": (("cartoon", "in cartoon style", "cartoon drawing"), ("cartoon", "cartoon drawing")),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": ("and", "next to", "beside", "with"),
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
}
_SIZES = {
    "small": ("small", "tiny", "little"),
    "normal": ("",),
    "big": ("big", "large", "huge", "giant"),
}
_NUMBERS = {2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
_PRAISE = (
    "cute",
    "beautiful",
    "lovely",
    "nice",
    "colorful",
    "simple",
)  # words that people add and that change nothing


@dataclass(frozen=True)
class Item:
    """One object in a scene. `x`, `y` are its centre and `size` its longer side, all as shares of the picture."""

    kind: Kind
    x: float
    y: float
    size: float
    colour: str | None = None
    upside_down: bool = False
    mirrored: bool = False


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `relation` is None for one object or several of a kind; `variant` picks the backdrop.

    `hand` says who drew the objects: "noto" is the font of the first Pocket. A hand with a name of its own in
    `HANDS` is the scene's style too.
    """

    items: tuple[Item, ...]
    background: str
    style: str = "plain"
    relation: str | None = None
    size: str = "normal"
    variant: int = 0
    hand: str = "noto"

    @property
    def count(self) -> int:
        """How many objects stand in the scene."""
        return len(self.items)


def held_out(a: str, b: str) -> bool:
    """Whether a combination (object × style or object × object, by name, in any order) is kept out of training.

    About one in sixteen is; the choice depends on the names alone, so that it never changes.
    """
    digest = hashlib.sha256("|".join(sorted((a, b))).encode()).digest()
    return digest[0] % 16 == 0


_SLOTS = {  # where things stand: one object, two beside or above each other, three, four
    1: ((0.50, 0.55, 0.66),),
    2: ((0.27, 0.58, 0.44), (0.73, 0.58, 0.44)),
    3: ((0.50, 0.29, 0.40), (0.26, 0.72, 0.40), (0.74, 0.72, 0.40)),
    4: ((0.27, 0.29, 0.40), (0.73, 0.29, 0.40), (0.27, 0.73, 0.40), (0.73, 0.73, 0.40)),
}
_STACK = ((0.50, 0.27, 0.44), (0.50, 0.74, 0.44))
_SCALE = {"small": 0.55, "normal": 1.0, "big": 1.3}


# how far a thing strays from its place, large or small, and from its size
_LOOSE: Final = (0.09, 0.04, 0.84, 1.08)
_TIGHT: Final = (0.08, 0.035, 0.86, 1.08)


def _place(
    kind: Kind,
    slot: tuple[float, float, float],
    rng: Random,
    *,
    scale: float = 1.0,
    colour: str | None,
    flip: bool = False,
    loose: bool,
) -> Item:
    x, y, size = slot
    large, small, least, most = _LOOSE if loose else _TIGHT
    jitter = large if size > 0.5 else small
    wobble = scale * rng.uniform(least, most)
    x, y = x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter)
    return Item(kind, x, y, size * wobble, colour, flip, mirrored=loose and rng.random() < 0.5)


def _colour(kind: Kind, background: str, rng: Random, share: float) -> str | None:
    if not kind.tint or rng.random() > share:
        return None
    return rng.choice([c for c in COLOURS if c not in ("gray", background)])


def random_scene(
    rng: Random,
    kinds: tuple[Kind, ...],
    *,
    training: bool = True,
    composition: str | None = None,
    hands: tuple[str, ...] = ("noto",),
    loose: bool = False,
) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    rng
        The only source of chance.
    kinds
        The objects to choose from.
    training
        Leave out the held-out combinations.
    composition
        ``"single"``, ``"pair"`` or ``"count"``; drawn at random when None.
    hands
        Who draws: the first unless the scene says otherwise, the others (names in `HANDS`) in some plain scenes.
    loose
        Place things more freely, in more sizes, and half of them mirrored: a network that has seen a thing in one
        place only learns the picture by heart.
    """
    what = composition or rng.choices(("single", "pair", "count"), (0.54, 0.34, 0.12))[0]
    while True:
        chosen = rng.sample(kinds, 2) if what == "pair" else [rng.choice(kinds)]
        background = chosen[0].home if rng.random() < 0.12 else rng.choice(BACKGROUNDS)
        style = rng.choice([s for s in STYLES if s != "plain"]) if rng.random() < 0.45 else "plain"
        hand = hands[0]
        if len(hands) > 1 and style == "plain" and rng.random() < 0.3:
            hand = style = rng.choice(hands[1:])
        pairs = [(k.name, style) for k in chosen] + (
            [(chosen[0].name, chosen[1].name)] if what == "pair" else []
        )
        if not training or not any(held_out(a, b) for a, b in pairs):
            break
    variant = rng.randrange(1 << 16)
    if what == "pair":
        relation = rng.choices(tuple(RELATIONS), (2, 1, 1, 1, 1))[0]
        a, b = _STACK if relation in ("above", "below") else _SLOTS[2]
        slots = (b, a) if relation in ("right", "below") else (a, b)
        items = tuple(
            _place(k, s, rng, colour=_colour(k, background, rng, 0.35), loose=loose)
            for k, s in zip(chosen, slots, strict=True)
        )
        return Scene(items, background, style, relation, variant=variant, hand=hand)
    kind = chosen[0]
    colour = _colour(kind, background, rng, 0.45 if what == "single" else 0.15)
    if what == "count":
        number = rng.choice((2, 3, 4))
        items = tuple(_place(kind, s, rng, colour=colour, loose=loose) for s in _SLOTS[number])
        return Scene(items, background, style, variant=variant, hand=hand)
    size = rng.choices(("normal", "small", "big"), (0.8, 0.1, 0.1))[0]
    flip = rng.random() < 0.03
    item = _place(
        kind, _SLOTS[1][0], rng, scale=_SCALE[size], colour=colour, flip=flip, loose=loose
    )
    return Scene((item,), background, style, size=size, variant=variant, hand=hand)


def _article(phrase: str) -> str:
    return (
        f"an {phrase}"
        if phrase[0] in "aeiou" and not phrase.startswith(("uni", "ufo"))
        else f"a {phrase}"
    )


def _noun(item: Item, rng: Random, *, size: str = "normal", article: bool = True) -> str:
    parts = [rng.choice(_PRAISE) if rng.random() < 0.05 else "", rng.choice(_SIZES[size])]
    parts += ["upside down" if item.upside_down else "", item.colour or "", item.kind.name]
    phrase = " ".join(p for p in parts if p)
    return _article(phrase) if article and item.kind.name != item.kind.plural else phrase


def subject(scene: Scene, rng: Random) -> str:
    """What stands in the scene, in words: "a blue car", "three cats", "a cat to the left of a dog"."""
    first = scene.items[0]
    if scene.relation:
        a, b = (_noun(i, rng) for i in scene.items)
        return f"{a} {rng.choice(RELATIONS[scene.relation])} {b}"
    if scene.count > 1:
        number = rng.choices(_NUMBERS[scene.count], (5, 1))[0]
        return " ".join(w for w in (number, first.colour, first.kind.plural) if w)
    return _noun(first, rng, size=scene.size, article=rng.random() < 0.85)


def backdrop(scene: Scene, rng: Random) -> str:
    """The background in words: "on a blue background", "in the snow"."""
    if scene.background in PLACES:
        return rng.choice(PLACES[scene.background])
    name = "grey" if scene.background == "gray" and rng.random() < 0.4 else scene.background
    form = rng.choices(
        ("on {a} background", "in front of {a} background", "on {a}", "with {a} background"),
        (6, 1, 1, 2),
    )[0]
    return form.format(a=_article(name) if "background" in form else name)


def caption(scene: Scene, rng: Random, *, name_home: bool = False) -> str:
    """One sentence for a scene, as a person might type it.

    The background may go unsaid where it is the first object's home; pass ``name_home=True`` to always say it.
    """
    who = subject(scene, rng)
    home = scene.background == scene.items[0].kind.home and not name_home and rng.random() < 0.7
    where = "" if home else backdrop(scene, rng)
    clauses, nouns = HANDS[scene.style] if scene.style in HANDS else STYLES[scene.style]
    if scene.style == "plain":
        lead = f"{_article(rng.choice(nouns))} of " if rng.random() < 0.15 else ""
        return f"{lead}{who} {where}".strip()
    form = rng.random()
    if form < 0.55:
        return f"{who} {where}".strip() + f", {rng.choice(clauses)}"
    if form < 0.7:
        return f"{rng.choice(clauses)}, {who} {where}".strip()
    return f"{_article(rng.choice(nouns))} of {who} {where}".strip()


def words(kinds: tuple[Kind, ...], hands: tuple[str, ...] = ("noto",)) -> tuple[str, ...]:
    """Every word that a caption over these kinds, drawn by these hands, can contain, sorted."""
    phrases = [k.name for k in kinds] + [k.plural for k in kinds] + list(COLOURS) + list(_PRAISE)
    phrases += ["grey a an of on in front background with upside down one"]
    for group in (*PLACES.values(), *RELATIONS.values(), *_SIZES.values(), *_NUMBERS.values()):
        phrases += group
    for clauses, nouns in (*STYLES.values(), *(HANDS[h] for h in hands[1:])):
        phrases += [*clauses, *nouns]
    return tuple(sorted({word for phrase in phrases for word in phrase.replace("-", " ").split()}))
