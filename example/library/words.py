"""List the words that titles, pen names and reviews are made of.

Nobody real is meant: pen names are made of plants, stones and weather, and places are invented.
"""


def _split(text: str, separator: str | None = None) -> list[str]:
    return text.split(separator)


ADJECTIVES = _split(
    "Amber Ashen Brave Bright Broken Clever Cold Crooked Distant Drifting Early Empty Fading "
    "Faithful Forgotten Frozen Gentle Golden Hidden Hollow Honest Idle Late Little Lonely Lost "
    "Narrow Northern Patient Quiet Restless Salt Scarlet Second Silent Slow Stubborn Unlikely "
    "Wandering Winter"
)
NOUNS = _split(
    "Archive Atlas Bell Bridge Candle Cartographer Clock Compass Feather Ferry Forest Garden "
    "Glacier Harbour Heron Island Kettle Key Lantern Letter Library Lighthouse Loom Map Meadow "
    "Mirror Moth Orchard Organ Paper Piano Pilot River Road Sail Shadow Staircase Storm Telescope "
    "Tower Valley Violin Watchmaker Weather Well Window"
)
PLACES = _split(
    "Applemere Bellhaven Cinderford-on-Sea Dunmarrow Eastwick-under-Hill Fennbridge Gullrock "
    "Hazelmoor Inkwell Junipergate Kestrelby Lanternquay Mossburgh Nettlecombe Otterwick "
    "Pebblemouth Quillhaven Rookstead Saltmarsh Thistledown Umberley Violetfield Windlestraw "
    "Yarrowgate"
)
FIRST_NAMES = _split(
    "Acorn Alder Aspen Bramble Briar Cedar Clover Comet Coral Cricket Ember Fennel Fern Flint "
    "Garnet Gossamer Hawthorn Hazel Indigo Ivory Larch Lark Linden Maple Marigold Nimbus Nutmeg "
    "Onyx Pepper Quill Rowan Saffron Sorrel Sparrow Tansy Thistle Umber Willow Wren Zephyr"
)
LAST_NAME_STARTS = _split(
    "Candle Cobble Copper Driftwood Feather Fog Hedge Ink Lamp Moon Paper Pebble Quill Rain "
    "Snow Thimble Thunder Wick"
)
LAST_NAME_ENDS = _split("bottom brook fall field keeper lark ley mantle more song wright worthy")
TAG_NAMES = _split(
    "Adventure,Archaeology,Architecture,Art,Astronomy,Biology,Chemistry,Cooking,Craft,Crime,"
    "Drama,Economics,Education,Essays,Fables,Fairy tales,Fantasy,Folklore,Gardening,Geography,"
    "Ghost stories,History,Humour,Journalism,Languages,Law,Letters,Mathematics,Medicine,Music,"
    "Mystery,Nature,Philosophy,Physics,Poetry,Politics,Science fiction,Sea stories,Sport,Travel",
    ",",
)
OPENINGS = _split(
    "At first,Halfway through,In the end,Line by line,On a rainy day,To my surprise", ","
)
OPINIONS = _split(
    "it kept me awake,it moves slowly,it rewards a second reading,it made me laugh,"
    "it tries too much,the middle part drags,the last chapter mends everything,"
    "every page has a purpose,the plot hides in plain sight,the pictures alone are worth it",
    ",",
)
