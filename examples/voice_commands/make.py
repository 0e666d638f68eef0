"""Writes train.csv and test.csv beside this file: spoken commands to a smart home.

    python examples/voice_commands/make.py

The texts come from the templates below, filled in with seeded random values. The test templates do
not occur among the training templates, so the test set measures whether a model understands a
phrasing that it has not seen.
"""

import csv
import io
import itertools
import os
import pathlib
import random
import re

SEED = 20240501
TRAIN_PER_INTENT = 170
TEST_PER_INTENT = 28

SLOTS = {
    "room": """kitchen|living room|bedroom|bathroom|hallway|garage|office|dining room|nursery|
        basement|guest room|study|attic|laundry room""",
    "lamp": "light|lights|lamp|ceiling light|floor lamp|bedside lamp|spotlights|reading lamp",
    "number": "one|two|three|five|ten|twelve|fifteen|twenty|thirty|forty five|fifty",
    "degrees": "sixteen|eighteen|nineteen|twenty|twenty one|twenty two|twenty four|sixty eight|70",
    "percent": "ten|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety",
    "unit": "seconds|minutes|hours",
    "food": "pasta|eggs|rice|pizza|cake|tea|bread|potatoes|chicken|cookies",
    "hour": "five|six|seven|eight|nine|half past six|quarter to eight|6 30|seven fifteen",
    "half": "in the morning|am|tomorrow|on monday|on weekdays|on saturday|tomorrow morning|pm",
    "genre": "jazz|rock|classical|hip hop|country|techno|folk|reggae|blues|lullabies|piano music",
    "artist": "the beatles|adele|miles davis|mozart|queen|nina simone|abba|bach|david bowie",
    "player": "speaker|radio|stereo|music|tv|sound",
    "door": """front door|back door|garage door|patio door|side door|cellar door|gate|garden gate|
        balcony door""",
    "city": "london|paris|berlin|milan|tokyo|new york|oslo|madrid|cairo|chicago|vienna|dublin",
    "day": "today|tomorrow|tonight|this weekend|on friday|this afternoon|next week|on sunday",
    "weather": "rain|snow|storm|freeze|clear up",
    "shade": "blinds|curtains|shutters|shades|drapes|roller blinds",
    "item": """milk|eggs|butter|apples|coffee|toilet paper|bananas|dish soap|cheese|batteries|
        olive oil|cat food|tomatoes""",
}

# Fillers go with every intent, so that none of them gives an intent away.
OPENINGS = [
    *[""] * 12, "please ", "hey ", "could you ", "can you ", "would you please ", "i want you to ",
    "i would like you to ", "i need you to ", "okay ", "now ", "let us ", "you should ", "so ",
    "it would be good if you could ", "do ", "go and ", "hello ", "next ", "well ",
    "i think you can ",
]  # fmt: skip
TEST_OPENINGS = ["", "", "", "", "please ", "okay ", "now ", "hello "]
ENDINGS = ["", "", "", "", "", " please", " now", " for me", " right away"]

# [a/b] stands for a or b.
TRAIN = {
    "light_on": """[turn/switch/put] on the {room} {lamp}|
        [turn/switch/put] the {lamp} on in the {room}|
        the {lamp} on|i [need/want/would like] [some/more] light in the {room}|
        it is [too/so/very] dark in the {room}|light up the {room}|lights on in the {room}|
        make the {room} bright|activate the {lamp} in the {room}|i [need/want] the {room} {lamp} on|
        i can not see anything in the {room} turn on the {lamp}|start the {room} {lamp}|
        the {lamp} in the {room} should be on|[get/have] the {room} {lamp} turned on|
        more light here|let there be light in the {room}|is the {lamp} on|illuminate the {room}|
        the {room} needs light|dark {room} lights on""",
    "light_off": """[turn/switch/put/shut] off the {room} {lamp}|
        [turn/switch] the {lamp} off in the {room}|lights [out/off] in the {room}|
        make the {room} dark|deactivate the {lamp} in the {room}|
        [nobody needs/we do not need] the {lamp} in the {room}|kill the {lamp} in the {room}|
        no more light in the {room}|it is too bright turn off the {lamp}|
        i [want/would like/need] the {room} {lamp} off|the {lamp} in the {room} should be off|
        [get/have] the {room} {lamp} turned off|is the {lamp} off|off with the {lamp}|
        all {lamp} off|everything off in the {room}|the {room} should be dark""",
    "light_dim": """dim the {room} {lamp}|dim the {lamp} to {percent} percent|
        set the {lamp} to {percent} percent|make the {lamp} in the {room} [softer/dimmer/darker]|
        [lower/reduce/change] the brightness of the {lamp}|a little less light in the {room}|
        set the {room} brightness to {percent} percent|
        the {room} {lamp} should be at {percent} percent|
        [bring/turn] the {room} {lamp} down to {percent}|i want [softer/less] light in the {room}|
        brightness {percent} percent in the {room}|
        make the {room} {lamp} [less bright/a bit dimmer]|
        {room} {lamp} [around/to/at] {percent} percent|i would like the {lamp} dimmed|
        the {lamp} is too bright dim it|soft light in the {room}|
        reduce the light to {percent} percent""",
    "thermostat": """set the [thermostat/heating] to {degrees} degrees|
        make it {degrees} degrees in the {room}|turn [up/down] the heating|
        turn the heating [on/off] in the {room}|i am [cold/freezing/too hot]|
        it is [too hot/too cold/freezing/chilly/warm] in [here/the {room}]|
        [warm up/cool down/heat] the {room}|
        [raise/lower/adjust] the temperature by {number} degrees|
        lower the temperature in the {room}|
        heat the {room} to {degrees} degrees|set the {room} temperature to {degrees}|
        turn on the air conditioning|change the thermostat to {degrees}|
        make the {room} [warmer/cooler]|i want it [warmer/cooler/{degrees} degrees]|
        the {room} should be [warm/warmer/cooler/{degrees} degrees]|a bit [warmer/cooler] here|
        i would like {degrees} degrees|how warm is the {room}|the {room} needs more heat""",
    "timer": """[set/start/begin/make] a timer [for/of] {number} {unit}|
        start a {number} minute timer|
        count [down/to] {number} {unit}|timer for {number} {unit}|{number} minutes for the {food}|
        tell me when {number} {unit} are over|set a {food} timer for {number} minutes|
        remind me [in/after] {number} {unit}|give me {number} {unit} on the timer|
        how much time is left on the timer|[cancel/stop/pause] the [timer/{food} timer]|
        start a countdown of {number} {unit}|i need {number} {unit} for the {food}|
        let me know when the {food} is done|counting {number} {unit}|is the timer [over/running]|
        i want a timer for the {food}|add {number} minutes to the timer|
        another timer {number} {unit}|
        the {food} needs {number} minutes""",
    "alarm": """wake me [up/] at {hour} {half}|set an alarm [for/at] {hour} {half}|
        set the alarm to {hour}|i [have to/need to/must/want to] get up at {hour} {half}|
        alarm [at/for] {hour} {half}|cancel my alarm {half}|[turn off/stop] the alarm [clock/]|
        snooze the alarm|[change/move/shift] my alarm to {hour} {half}|
        make sure i am [awake/up] [at/by] {hour}|delete the {hour} alarm|
        is my alarm set [for {hour}/{half}]|i want to be awake at {hour}|when is my [next/] alarm|
        ring at {hour} {half}|the alarm should ring at {hour}|i would like an alarm {half}|
        let me sleep until {hour}|add an alarm at {hour} {half}""",
    "music": """play some {genre}|play {artist}|play [a song/songs/something] by {artist}|
        put on some {genre}|i [want/would like/need] to hear {artist}|play {genre} in the {room}|
        start my {genre} playlist|next [song/track]|skip [this/the] [track/song]|
        [pause/stop/continue] the music|play the latest album by {artist}|shuffle my {genre} songs|
        resume the song|i want to listen to [some/] [{genre}/{artist}]|let me listen to {artist}|
        we need some {genre} in the {room}|find [some {genre}/{artist}]|go back to the last song|
        a little [{genre}/music] in the {room}|some music by {artist}|{genre} please|
        [{artist}/{genre}] in the {room}|i am in the mood for {genre}|what song is playing""",
    "volume": """turn [up/down] the volume|turn down the volume of the {player}|
        make the {player} [louder/quieter]|set the volume to {percent} percent|volume [up/down]|
        [mute/unmute] the {player}|it is too [loud/quiet]|the {player} is too [quiet/loud]|
        turn the {player} [up/down]|[lower/reduce] the volume in the {room}|
        raise the {player} volume to {percent}|i [can hardly/can barely] hear the {player}|
        a bit [louder/more volume]|[more/less] volume|the {player} should be quieter|
        i want the {player} louder|i would like less volume|a little quieter in the {room}|
        bring up the volume of the {player}|louder|quieter|change the volume to {percent}""",
    "lock": """lock the {door}|lock up the house|make sure the {door} is locked|secure the {door}|
        bolt the {door}|lock [all doors/everything/every door]|is the {door} locked|
        keep the {door} locked|lock the {door} when i leave|[close/shut] and lock the {door}|
        i [forgot/want/need] to lock the {door}|we are leaving lock the {door}|
        [get/have] the {door} locked|i want the {door} locked|put the bolt on the {door}|
        the {door} needs to be locked|check the lock of the {door}|
        nobody should get in at the {door}|
        lock the {door} [tonight/for the night]|did i lock the {door}""",
    "unlock": """unlock the {door}|open the {door}|let my [guest/friend/mother] in at the {door}|
        open the lock of the {door}|undo the bolt of the {door}|unlock [all doors/everything]|
        unlock the {door} for the courier|release the {door}|i am home open the {door}|
        let the dog out through the {door}|unbolt the {door}|i want the {door} [open/unlocked]|
        [get/have] the {door} unlocked|is the {door} [unlocked/open]|let them in|
        someone is at the {door} open it|take the bolt off the {door}|let me in through the {door}|
        the {door} needs to be unlocked|i want to go in the {door}|the {door} should be open""",
    "weather": """what is the weather like in {city}|what is the weather {day}|
        [will it/is it going to/could it/should it] {weather} [{day}/in {city}/in {city} {day}]|
        do i need [an umbrella/a jacket/a coat/boots] {day}|how cold will it be in {city} {day}|
        give me the forecast for {city}|weather forecast for {day}|
        how [hot/warm/cold] is it in {city}|
        is it [sunny/windy/raining/cloudy] in {city} {day}|tell me the weather in {city} {day}|
        what is the temperature in {city}|what [is/does] the forecast {day}|how is {city} {day}|
        [rain/snow] in {city} {day}|i want the weather for {city}|
        will there be [rain/sun/wind] {day}|
        chance of [snow/storms/sun] in {city}|should i take an umbrella {day}|
        how will the weather be {day}""",
    "vacuum": """vacuum the {room}|start the [vacuum/robot]|clean the {room} [floor/]|
        [send/take/get] the robot to the {room}|start cleaning [the {room}/]|
        stop the vacuum cleaner|
        the {room} floor is [dirty/dusty]|send the [vacuum/robot] back to its dock|
        pause the robot vacuum|let the robot clean the {room}|hoover the {room}|
        there is [dust/dirt/sand] [in the {room}/on the floor]|
        robot clean under the table in the {room}|
        the {room} needs [cleaning/a clean/vacuuming]|i want the {room} [clean/vacuumed]|
        the vacuum should [clean/do] the {room}|have the {room} floor vacuumed|go back to the dock|
        run the robot [{day}/in the {room}]|finish the cleaning|the {room} is [dirty/a mess]""",
    "blinds": """[open/close/shut] the {shade} in the {room}|[open/close/shut] the {room} {shade}|
        [lower/raise] the {shade} [in the {room}/]|pull down the {shade}|pull up the {room} {shade}|
        set the {shade} to {percent} percent|draw the {shade} in the {room}|
        move the {shade} half way [down/up]|roll up the {room} {shade}|
        let the sun in through the {shade}|i [want/would like] the {room} {shade} [open/closed]|
        the {shade} should be [open/down/up]|{shade} [up/down/closed]|[put/bring] the {shade} down|
        keep the sun out of the {room}|have the {room} {shade} half closed|
        the sun is too bright close the {shade}|the {shade} in the {room} need to be up|
        are the {shade} closed in the {room}""",
    "shopping": """add {item} to the [shopping/] list|put {item} on [my/the] list|
        [we/i] need [{item}/more {item}/to buy {item}]|we are out of {item}|buy {item}|
        remind me to [buy/get] {item}|[remove/take] {item} [from/off] the list|
        [what is on/read/show me] my shopping list|add {item} and {item}|order more {item}|
        [i/we] ran out of {item}|is {item} on the list|clear the shopping list|
        there is [no/hardly any] {item} left|get {item} [at the store/from the supermarket]|
        {item} should be on the shopping list|i want [{item}/some {item}] from the shop|
        write {item} on the list|{item} for the shopping list|next shopping {item} and {item}""",
}

TEST = {
    "light_on": """get the {lamp} in the {room} on|i would like the {room} {lamp} switched on|
        some light for the {room}|it is dark in here turn on the {lamp}|have the {room} lit|
        the {room} is dark""",
    "light_off": """i do not need the {lamp} anymore|shut the {lamp} off in the {room}|
        i would like the {room} {lamp} switched off|all lights off in the {room}|
        leave the {room} dark|the {room} {lamp} can go off""",
    "light_dim": """take the {lamp} down to {percent} percent brightness|
        the {lamp} should be a little dimmer|less light in the {room} around {percent} percent|
        reduce the {room} {lamp} to {percent} percent|softer {lamp} in the {room}""",
    "thermostat": """i would like it warmer in the {room}|let us have {degrees} degrees in here|
        the {room} is too cold|adjust the heating to {degrees} degrees|
        it should be cooler in the {room}|put the heating on in the {room}""",
    "timer": """let me know after {number} {unit}|put {number} minutes on the clock for the {food}|
        i need a timer of {number} {unit}|begin counting down from {number} {unit}|
        is the {food} timer done|new timer {number} {unit}""",
    "alarm": """get me up at {hour} {half}|i need to be awake by {hour} {half}|
        ring the alarm at {hour} {half}|when does my alarm go off|
        new alarm {hour} {half}|move the alarm to {hour}""",
    "music": """i feel like listening to {artist}|let me hear some {genre}|
        how about a little {genre}|go to the next track|find songs by {artist} and play them|
        can we have {genre} playing in the {room}""",
    "volume": """i can not hear the {player}|a bit quieter|crank up the {player}|
        bring the volume down to {percent} percent|less volume on the {player}|
        the {player} should be louder""",
    "lock": """the {door} should be locked|check that the {door} is locked|
        put the lock on the {door}|i am leaving lock everything|do lock the {door} tonight""",
    "unlock": """the {door} should be unlocked|somebody is at the {door} let them in|
        i want to get in through the {door}|get the {door} open|take the lock off the {door}""",
    "weather": """should i expect {weather} in {city} {day}|how is the weather looking {day}|
        any chance of rain {day}|what does the forecast say for {city}|
        will i need a coat in {city} {day}""",
    "vacuum": """give the {room} a good clean|the robot should vacuum the {room}|
        run the vacuum in the {room}|there are crumbs on the {room} floor|
        get the vacuum going|finish cleaning and go back to the dock""",
    "blinds": """i want the {shade} down in the {room}|get the {shade} up|
        {shade} half open in the {room}|the {room} {shade} should be closed|
        block the sun with the {shade}""",
    "shopping": """note down {item} for the supermarket|there is no more {item}|
        next time i shop i need {item}|{item} belongs on the list|
        could we get {item} from the store|read me the shopping list""",
}


def _options(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("|")]


def _fill(template: str, rng: random.Random) -> str:
    text = re.sub(r"\[([^]]*)\]", lambda match: rng.choice(match[1].split("/")), template)
    text = re.sub(r"{(\w+)}", lambda match: rng.choice(_options(SLOTS[match[1]])), text)
    return " ".join(text.split())


def _spell_out(template: str) -> set[str]:
    """Returns a template once for each combination of its alternatives."""
    parts = [part.split("/") for part in re.split(r"\[([^]]*)\]", template)[1::2]]
    frame = re.sub(r"\[[^]]*\]", "\0", template)
    results = set()
    for chosen in itertools.product(*parts):
        pieces = itertools.zip_longest(frame.split("\0"), chosen, fillvalue="")
        results.add(" ".join("".join(a + b for a, b in pieces).split()))
    return results


def make(templates: dict, openings: list, count: int, rng: random.Random, taken: set) -> list:
    """Fills in templates.

    Args:
        templates: Intent to templates, separated by `|`.
        openings: What may come before a command.
        count: Texts wanted of each intent. Templates take turns; an intent whose templates have
            fewer different fillings yields fewer.
        rng: Source of the choices.
        taken: Texts not to make; gets the new ones.

    Returns:
        Shuffled (text, intent) without repetitions.
    """
    rows = []
    for intent, joined in templates.items():
        options = _options(joined)
        made = 0
        for attempt in range(50 * count):
            if made == count:
                break
            text = _fill(options[attempt % len(options)], rng)
            text = rng.choice(openings) + text + rng.choice(ENDINGS)
            if text not in taken:
                taken.add(text)
                rows.append((text, intent))
                made += 1
    rng.shuffle(rows)
    return rows


def as_csv(rows: list) -> str:
    """Returns the rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    return text.getvalue()


def files() -> dict[str, str]:
    """Returns file name to content."""
    for intent, joined in TEST.items():
        known = set().union(*map(_spell_out, _options(TRAIN[intent])))
        shared = set(_options(joined)) & known
        if shared:
            raise ValueError(f"{intent}: templates in both sets: {sorted(shared)}")
    rng = random.Random(SEED)
    taken: set[str] = set()
    train = make(TRAIN, OPENINGS, TRAIN_PER_INTENT, rng, taken)
    return {
        "train.csv": as_csv(train),
        "test.csv": as_csv(make(TEST, TEST_OPENINGS, TEST_PER_INTENT, rng, taken)),
    }


def main() -> None:
    """Writes both files."""
    for name, text in files().items():
        path = pathlib.Path(__file__).with_name(name)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        print(f"{path.name}: {text.count(chr(10)) - 1} rows")


if __name__ == "__main__":
    main()
