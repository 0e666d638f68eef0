"""Writes train.csv and test.csv beside this file: spoken commands to a smart home.

    python examples/voice_commands/make.py

The texts come from the templates below, filled in with seeded random values. The test templates do
not occur among the training templates, so the test set measures whether a model understands a
phrasing that it has not seen.
"""

import csv
import io
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

OPENINGS = ["", "", "", "", "", "please ", "hey ", "could you ", "can you ", "would you please "]
TEST_OPENINGS = ["", "", "", "", "please ", "okay ", "now ", "hello "]
ENDINGS = ["", "", "", "", "", " please", " now", " for me", " right away"]

TRAIN = {
    "light_on": """turn on the {room} {lamp}|turn the {lamp} on in the {room}|
        switch on the {lamp}|switch the {room} {lamp} on|put the {lamp} on in the {room}|
        i need some light in the {room}|it is too dark in the {room}|light up the {room}|
        lights on in the {room}|make the {room} bright|activate the {lamp} in the {room}|
        i can not see anything in the {room}|start the {room} {lamp}""",
    "light_off": """turn off the {room} {lamp}|turn the {lamp} off in the {room}|
        switch off the {lamp}|switch the {room} {lamp} off|put out the {lamp} in the {room}|
        lights out in the {room}|make the {room} dark|deactivate the {lamp} in the {room}|
        nobody needs the {lamp} in the {room}|kill the {lamp} in the {room}|
        no more light in the {room}|it is too bright in the {room} turn off the {lamp}""",
    "light_dim": """dim the {room} {lamp}|dim the {lamp} to {percent} percent|
        set the {lamp} to {percent} percent|make the {lamp} in the {room} softer|
        lower the brightness of the {lamp}|set the {room} brightness to {percent} percent|
        bring the {room} {lamp} down to {percent}|i want softer light in the {room}|
        brightness {percent} percent in the {room}|make the {room} {lamp} less bright""",
    "thermostat": """set the thermostat to {degrees} degrees|
        make it {degrees} degrees in the {room}|
        turn up the heating|turn down the heat in the {room}|i am cold|i am freezing|
        it is too hot in the {room}|warm up the {room}|cool down the {room}|
        raise the temperature by {number} degrees|lower the temperature in the {room}|
        heat the {room} to {degrees} degrees|set the {room} temperature to {degrees}|
        turn on the air conditioning|change the thermostat to {degrees}""",
    "timer": """set a timer for {number} {unit}|start a {number} minute timer|
        count down {number} {unit}|timer for {number} {unit}|
        tell me when {number} {unit} are over|set a {food} timer for {number} minutes|
        remind me in {number} {unit}|give me {number} {unit} on the timer|
        how much time is left on the timer|cancel the timer|stop the {food} timer|
        start a countdown of {number} {unit}""",
    "alarm": """wake me up at {hour} {half}|set an alarm for {hour} {half}|
        set the alarm to {hour}|i have to get up at {hour} {half}|alarm at {hour} {half}|
        cancel my alarm {half}|turn off the alarm clock|snooze the alarm|
        change my alarm to {hour} {half}|make sure i am awake at {hour}|
        delete the {hour} alarm""",
    "music": """play some {genre}|play {artist}|play a song by {artist}|put on some {genre}|
        i want to hear {artist}|play {genre} in the {room}|start my {genre} playlist|
        next song|skip this track|pause the music|stop the music|
        play the latest album by {artist}|shuffle my {genre} songs|resume the song""",
    "volume": """turn up the volume|turn down the volume of the {player}|make the {player} louder|
        set the volume to {percent} percent|volume up|volume down|mute the {player}|
        it is too loud|the {player} is too quiet|turn the {player} up|
        lower the volume in the {room}|raise the {player} volume to {percent}|
        unmute the {player}""",
    "lock": """lock the {door}|lock up the house|make sure the {door} is locked|
        secure the {door}|bolt the {door}|lock all doors|is the {door} locked|
        please keep the {door} locked|lock the {door} when i leave|close and lock the {door}|
        i forgot to lock the {door}""",
    "unlock": """unlock the {door}|open the {door}|let my guest in at the {door}|
        open the lock of the {door}|undo the bolt of the {door}|unlock all doors|
        unlock the {door} for the courier|release the {door}|i am home open the {door}|
        let the dog out through the {door}|unbolt the {door}""",
    "weather": """what is the weather like in {city}|what is the weather {day}|
        will it {weather} {day}|do i need an umbrella {day}|how cold will it be in {city} {day}|
        give me the forecast for {city}|is it going to {weather} in {city}|
        weather forecast for {day}|how hot is it in {city}|is it sunny in {city} {day}|
        tell me the weather in {city} {day}|what is the temperature in {city}""",
    "vacuum": """vacuum the {room}|start the vacuum|clean the {room} floor|
        send the robot to the {room}|start cleaning the {room}|stop the vacuum cleaner|
        the {room} floor is dirty|send the vacuum back to its dock|pause the robot vacuum|
        let the robot clean the {room}|hoover the {room}|there is dust in the {room}|
        robot clean under the table in the {room}""",
    "blinds": """open the {shade} in the {room}|close the {room} {shade}|lower the {shade}|
        raise the {shade} in the {room}|pull down the {shade}|pull up the {room} {shade}|
        set the {shade} to {percent} percent|draw the {shade} in the {room}|
        shut the {shade}|move the {shade} half way down|roll up the {room} {shade}|
        let the sun in through the {shade}""",
    "shopping": """add {item} to the shopping list|put {item} on my list|we need {item}|
        we are out of {item}|buy {item}|remind me to buy {item}|remove {item} from the list|
        what is on my shopping list|add {item} and {item}|order more {item}|
        i ran out of {item}|take {item} off the shopping list|clear the shopping list""",
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
    return re.sub(r"{(\w+)}", lambda match: rng.choice(_options(SLOTS[match[1]])), template)


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
        shared = set(_options(joined)) & set(_options(TRAIN[intent]))
        if shared:
            raise ValueError(f"{intent}: templates in both sets: {sorted(shared)}")
    rng = random.Random(SEED)
    taken: set[str] = set()
    train = make(TRAIN, OPENINGS, TRAIN_PER_INTENT, rng, taken)
    return {
        "train.csv": as_csv(train),
        "test.csv": as_csv(make(TEST, TEST_OPENINGS, TEST_PER_INTENT, rng, taken)),
    }


def main():
    """Writes both files."""
    for name, text in files().items():
        path = pathlib.Path(__file__).with_name(name)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        print(f"{path.name}: {text.count(chr(10)) - 1} rows")


if __name__ == "__main__":
    main()
