"""What the numbers of labels and the channels of parsers mean, where public files agree on it."""

from __future__ import annotations

from mien.engines.errors import ModelError, UsageError

# Emotions as data sets and papers name them, by mien's names.
EMOTION_WORDS = {
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
    "fear": "fearful",
    "disgust": "disgusted",
    "anger": "angry",
    "contempt": "contemptuous",
    "neutrality": "neutral",
}
MINE = frozenset(EMOTION_WORDS.values())
# The labels of the public StarGANs, by their number: CelebA's attributes, and the folders of RaFD.
PUBLIC_LABELS = {
    5: ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"),
    8: (
        "angry", "contemptuous", "disgusted", "fearful", "happy", "neutral", "sad", "surprised",
    ),
}  # fmt: skip
# Source: the scripts that make the masks, of CelebAMask-HQ and of the public BiSeNet.
CLASS_ORDERS = {
    "celebamask": (
        "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear",
        "r_ear", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ),
    "zllrunning": (
        "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear",
        "ear_r", "nose", "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
}  # fmt: skip
# Of these a parser must have one at least: they are what mien looks for.
PART_CLASSES = frozenset({"l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip"})
ARROW = "->"
# Source: CelebA (Liu et al., ICCV 2015), in the order of its list.
CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip


def label_names(given: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """The names of a StarGAN's `count` labels, emotions by mien's names.

    given: as asked for, None to take those of the public files. Raises UsageError.
    """
    if given is None:
        if count not in PUBLIC_LABELS:
            raise UsageError(
                f"the checkpoint has {count} labels and no names for them; add --labels with "
                f"{count} names in its order, such as --labels neutral,happy,sad"
            )
        return PUBLIC_LABELS[count]
    if len(given) != count:
        raise UsageError(f"--labels has {len(given)} names, but the checkpoint has {count} labels")
    names = tuple(map(emotion_word, given))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"--labels says {twice[0]} more than once ({','.join(given)}); name each label once"
        )
    return names


def celeba_attributes(given: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """The names of `count` attributes: as asked for, or CelebA's. Raises UsageError."""
    if given is None and count == len(CELEBA):
        return CELEBA
    if given is None:
        raise UsageError(
            f"the checkpoint has {count} directions and no names for them; add --attributes with "
            f"{count} names in its order, such as --attributes Smiling"
        )
    if len(given) != count:
        raise UsageError(
            f"--attributes has {len(given)} names, but the checkpoint has {count} of them"
        )
    return given


def direction(given: tuple[str, ...] | None) -> str:
    """What a CycleGAN turns into what, such as `neutral->happy`. Raises UsageError."""
    example = "add --labels 'neutral->happy', or whatever it was trained on"
    if given is None:
        raise UsageError(f"the checkpoint does not say what it turns into what; {example}")
    ends = [end.strip() for end in given[0].split(ARROW)] if len(given) == 1 else []
    if len(ends) != 2 or not all(ends):
        raise UsageError(f"--labels of a CycleGAN is one A->B, not {','.join(given)!r}; {example}")
    return ARROW.join(map(emotion_word, ends))


def emotion_word(name: str) -> str:
    """An emotion by mien's name; any other name as it is."""
    return EMOTION_WORDS.get(name.lower(), name.lower() if name.lower() in MINE else name)


def class_names(
    given: tuple[str, ...] | None, order: str | None, default: str | None, count: int
) -> tuple[str, ...]:
    """The names of a parser's `count` classes, in order.

    given, order: as asked for. default: the order that files of this form have, or None.

    Raises UsageError.
    """
    names = given
    if names is None:
        key = order or (default if len(CLASS_ORDERS.get(default or "", ())) == count else None)
        if key is None:
            raise UsageError(
                f"the checkpoint has {count} classes and no names for them; add --class-order "
                f"({' or '.join(CLASS_ORDERS)}) or --classes with {count} names in its order"
            )
        names = CLASS_ORDERS[key]
    if len(names) != count:
        raise UsageError(f"{len(names)} classes are named, but the checkpoint has {count}")
    if PART_CLASSES.isdisjoint(names):
        raise ModelError(
            f"none of the classes is a part of a face ({', '.join(names[:5])}, ...); mien looks "
            f"for {', '.join(sorted(PART_CLASSES))}"
        )
    return names
