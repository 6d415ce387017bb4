"""Discovery of what people may set: small graphs by hand, those that ship, and real ones."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from comfy.discovery import Discovery, discover
from comfy.graph import Graph, InputRef, check_graph
from comfy.nodes import InputType, NodeType, NodeTypes
from comfy.parameters import (
    Parameter,
    Role,
    first_text_input,
    text_inputs,
    type_of,
    typed,
)
from comfy.workflow import Workflow, parse_sidecar
from comfy.workflow_file import parse_json
from tests.graphs import a_graph

SHIPPED = Path(__file__).parents[2] / "workflows"
REAL = Path(__file__).parents[3] / "shared" / "seed" / "workflows"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def text(value: Any, **more: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", text=value, clip=["4", 1], **more)


PLAIN = a_graph(
    n3={"seed": 1}, n4={"ckpt_name": "a.safetensors"}, n5={"height": 768}, n6={"text": "a cat"}
)
CHECKPOINT, EMPTY = PLAIN["4"], PLAIN["5"]


def sampler(**inputs: Any) -> dict[str, Any]:
    return node("KSampler", **{**PLAIN["3"]["inputs"], **inputs})


PLAIN_TARGETS = {
    "text": "6.text",
    "negative": "7.text",
    "seed": "3.seed",
    "steps": "3.steps",
    "cfg": "3.cfg",
    "sampler": "3.sampler_name",
    "scheduler": "3.scheduler",
    "width": "5.width",
    "height": "5.height",
    "batch": "5.batch_size",
    "model": "4.ckpt_name",
}
ADVANCED: Graph = {
    "4": node("UNETLoader", unet_name="flux.safetensors"),
    "5": EMPTY,
    "6": text("a cat"),
    "10": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
    "11": node("BasicGuider", model=["4", 0], conditioning=["10", 0]),
    "12": node("RandomNoise", noise_seed=1),
    "13": node("KSamplerSelect", sampler_name="euler"),
    "14": node("BasicScheduler", model=["4", 0], scheduler="simple", steps=20, denoise=1.0),
    "15": node(
        "SamplerCustomAdvanced",
        noise=["12", 0],
        guider=["11", 0],
        sampler=["13", 0],
        sigmas=["14", 0],
        latent_image=["5", 0],
    ),
}


def targets(found: Discovery) -> dict[str, str]:
    return {
        name: ", ".join(str(ref) for ref in each.targets) for name, each in found.parameters.items()
    }


def changed(**nodes: dict[str, Any] | None) -> Graph:
    """PLAIN with some nodes added (`n10=…`), replaced or taken out (`n7=None`)."""
    graph = {**PLAIN, **{key[1:].replace("_", ":"): each for key, each in nodes.items()}}
    return {key: each for key, each in graph.items() if each is not None}


CONTROLLED = node(
    "ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["4", 0]
)


HOW = "declare one with /workflow expose, or choose one with the option node."


def saved(node_id: str) -> dict[str, Any]:
    return node("SaveImage", images=[node_id, 0], filename_prefix="x")


SECOND_DECODED = node("VAEDecode", samples=["2", 0], vae=["4", 2])

TABLE: dict[str, tuple[Graph, dict[str, str]]] = {
    "the plain one": (PLAIN, {}),
    "the negative text stands first": (
        dict(sorted(changed(n6=text("blurry"), n7=text("a cat")).items(), reverse=True))
        | {"3": sampler(positive=["7", 0], negative=["6", 0])},
        {"text": "7.text", "negative": "6.text"},
    ),
    "ids with colons": (
        changed(
            n12_5=text("a cat"), n12_6=text("blurry"), n6=None, n7=None,
            n3=sampler(positive=["12:5", 0], negative=["12:6", 0]),
        ),
        {"text": "12:5.text", "negative": "12:6.text"},
    ),
    "the text is linked to a string": (
        changed(n6=text(["10", 0]), n10=node("PrimitiveStringMultiline", value="a cat")),
        {"text": "10.value"},
    ),
    "the text is linked over two nodes": (
        changed(
            n6=text(["10", 0]), n10=node("Reroute", string=["11", 0]),
            n11=node("Text Multiline", text="a cat"),
        ),
        {"text": "11.text"},
    ),
    "conditionings are combined with one text": (
        changed(
            n3=sampler(positive=["10", 0]),
            n10=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0]),
        ),
        {},
    ),
    "conditionings are combined with equal texts": (
        changed(
            n3=sampler(positive=["10", 0]), n11=text("a cat"),
            n10=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["11", 0]),
        ),
        {"text": "6.text, 11.text"},
    ),
    "a ControlNet: its slot picks the side": (
        changed(n10=CONTROLLED, n3=sampler(positive=["10", 0], negative=["10", 1])),
        {},
    ),
    "a ControlNet with its sides exchanged": (
        changed(n10=CONTROLLED, n3=sampler(positive=["10", 1], negative=["10", 0])),
        {"text": "7.text", "negative": "6.text"},
    ),
    "two ControlNets in a row": (
        changed(
            n10=CONTROLLED,
            n11=node("ControlNetApplyAdvanced", positive=["10", 0], negative=["10", 1]),
            n3=sampler(positive=["11", 0], negative=["11", 1]),
        ),
        {},
    ),
    "a node with more slots than sides": (
        changed(n10=CONTROLLED, n3=sampler(positive=["10", 2], negative=["10", 2])),
        {},
    ),
    "an old ControlNet, for one side": (
        changed(
            n3=sampler(positive=["10", 0]),
            n10=node("ControlNetApply", control_net=["4", 0], conditioning=["6", 0], strength=1.0),
        ),
        {},
    ),
    "a sampler without a negative side": (
        changed(
            n7=None,
            n3=node("SamplerCustom", positive=["6", 0], latent_image=["5", 0], model=["4", 0]),
        ),
        {
            "negative": "", "seed": "", "steps": "", "cfg": "", "sampler": "", "scheduler": "",
        },
    ),
    "a conditioning that is set to nothing": (
        changed(
            n10=node("ConditioningZeroOut", conditioning=["6", 0]), n7=None,
            n3=sampler(negative=["10", 0]),
        ),
        {"negative": ""},
    ),
    "one text for both sides": (
        changed(n7=None, n3=sampler(negative=["6", 0])),
        {"negative": ""},
    ),
    "the encoder of Flux": (
        changed(
            n6=node("CLIPTextEncodeFlux", clip=["4", 1], clip_l="a", t5xxl="a cat", guidance=3.5)
        ),
        {"text": "6.clip_l, 6.t5xxl"},
    ),
    "the encoder of SDXL": (
        changed(n6=node("CLIPTextEncodeSDXL", clip=["4", 1], text_g="a cat", text_l="a cat")),
        {"text": "6.text_g, 6.text_l"},
    ),
    "LoRAs before the checkpoint": (
        changed(
            n3=sampler(model=["10", 0]),
            n10=node("LoraLoader", lora_name="a", model=["11", 0], clip=["4", 1]),
            n11=node("LoraLoaderModelOnly", lora_name="b", model=["4", 0]),
        ),
        {"lora": "10.lora_name", "lora_2": "11.lora_name"},
    ),
    "a second pass": (
        changed(
            n8=SECOND_DECODED,
            n10=node("LatentUpscale", samples=["3", 0], width=1024, height=1536),
            n2=sampler(seed=2, steps=10, denoise=0.5, latent_image=["10", 0]),
        ),
        {"seed": "3.seed, 2.seed"},
    ),
    "a second pass that stands first in the file": (
        {"2": sampler(seed=2, steps=10, latent_image=["3", 0]), **PLAIN, "8": SECOND_DECODED},
        {"seed": "2.seed, 3.seed"},
    ),
    "a second pass with a text of its own that is equal": (
        changed(
            n2=sampler(positive=["11", 0], latent_image=["3", 0]), n11=text("a cat"),
            n8=SECOND_DECODED,
        ),
        {"text": "6.text, 11.text", "seed": "3.seed, 2.seed"},
    ),
    "a second pass with another text": (
        changed(
            n2=sampler(positive=["11", 0], latent_image=["3", 0]), n11=text("more detail"),
            n8=SECOND_DECODED,
        ),
        {"seed": "3.seed, 2.seed", "text_11": "11.text"},
    ),
    "a picture to start from": (
        changed(
            n5=node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
            n10=node("LoadImage", image="a.png"), n3=sampler(denoise=0.6),
        ),
        {"width": "", "height": "", "batch": "", "strength": "3.denoise", "image": "10.image"},
    ),
    "a picture that is scaled to a size": (
        changed(
            n5=node("VAEEncode", pixels=["11", 0], vae=["4", 2]),
            n11=node("ImageScale", image=["10", 0], width=512, height=512, crop="disabled"),
            n10=node("LoadImage", image="a.png"),
        ),
        {
            "width": "11.width", "height": "11.height", "batch": "",
            "strength": "3.denoise", "image": "10.image",
        },
    ),
    "two pictures": (
        changed(
            n10=node("LoadImage", image="a.png"), n11=node("LoadImage", image="b.png"),
            n12=node("ImageBatch", image1=["10", 0], image2=["11", 0]), n9=saved("12"),
            n13=saved("8"),
        ),
        {"image": "10.image", "image_2": "11.image"},
    ),
    "a picture of which only the mask is used": (
        changed(
            n10=node("LoadImage", image="a.png"),
            n5=node("VAEEncodeForInpaint", pixels=["11", 0], mask=["10", 1], vae=["4", 2]),
            n11=node("LoadImage", image="b.png"),
        ),
        {
            "width": "", "height": "", "batch": "", "strength": "3.denoise",
            "image": "11.image", "mask": "10.image",
        },
    ),
    "a mask, a video and a sound": (
        changed(
            n10=node("LoadImageMask", image="a.png"), n11=node("LoadVideo", file="b.mp4"),
            n12=node("LoadAudio", audio="c.wav"),
            n13=node("SaveVideo", mask=["10", 0], video=["11", 0], audio=["12", 0]),
        ),
        {"mask": "10.image", "video": "11.file", "audio": "12.audio"},
    ),
    "what reaches no output is left out": (
        changed(
            n10=node("LoadImage", image="a.png"), n2=sampler(seed=2, positive=["11", 0]),
            n11=text("elsewhere"),
        ),
        {},
    ),
    "a switch that is set": (
        changed(
            n6=text(["10", 0]), n13=node("PrimitiveBoolean", value=False),
            n10=node("ComfySwitchNode", switch=["13", 0], on_true=["11", 0], on_false=["12", 0]),
            n11=node("PrimitiveString", value="no"), n12=node("PrimitiveString", value="yes"),
        ),
        {"text": "12.value"},
    ),
    "words that are put into a template": (
        changed(
            n6=text(["10", 0]), n11=node("PrimitiveString", value="a cat"),
            n10=node("StringReplace", string="a photo of {x}", find="{x}", replace=["11", 0]),
        ),
        {"text": "11.value"},
    ),
    "one node that encodes both sides": (
        changed(
            n6=node("TextEncodeBoth", prompt="a cat", negative_prompt="blurry"), n7=None,
            n3=sampler(positive=["6", 0], negative=["6", 1]),
        ),
        {"text": "6.prompt", "negative": "6.negative_prompt"},
    ),
    "a loader that encodes both sides": (
        changed(
            n6=node("Efficient Loader", ckpt_name="a.pt", positive="a cat", negative="blurry"),
            n7=None, n3=sampler(positive=["6", 1], negative=["6", 2], model=["6", 0]),
        ),
        {"text": "6.positive", "negative": "6.negative", "model": "6.ckpt_name"},
    ),
    "a styler that makes both texts": (
        changed(
            n6=text(["10", 0]), n7=text(["10", 1]),
            n10=node("SDXLPromptStyler", text_positive="a cat", text_negative="blurry"),
        ),
        {"text": "10.text_positive", "negative": "10.text_negative"},
    ),
    "embeddings that carry both sides": (
        changed(
            n6=node("WanVideoTextEncode", positive_prompt="a cat", negative_prompt="blurry"),
            n7=None, n5=node("WanVideoEmptyEmbeds", width=832, height=480, num_frames=81),
            n3=node(
                "WanVideoSampler", text_embeds=["6", 0], image_embeds=["5", 0], model=["4", 0],
                steps=30, cfg=6.0, seed=1, scheduler="unipc",
            ),
            n4=node("WanVideoModelLoader", model="wan.safetensors"),
        ),
        {
            "text": "6.positive_prompt", "negative": "6.negative_prompt", "batch": "",
            "length": "5.num_frames", "sampler": "", "model": "4.model",
        },
    ),
    "a service instead of a sampler": (
        {
            "1": node("KlingTextToVideo", prompt="a cat", negative_prompt="blurry", seed=3),
            "2": node("SaveVideo", video=["1", 0]),
        },
        {**dict.fromkeys(PLAIN_TARGETS, ""), "text": "1.prompt", "negative": "1.negative_prompt",
         "seed": "1.seed"},
    ),
    "words and lyrics": (
        changed(n6=node("TextEncodeAceStepAudio", tags="jazz", lyrics="la la")),
        {"text": "6.tags", "lyrics": "6.lyrics"},
    ),
    "a picture that comes from another node": (
        changed(n10=node("LoadImageFromPath", image=["8", 0])),
        {},
    ),
    "the seed is linked to a primitive": (
        changed(n3=sampler(seed=["10", 0]), n10=node("PrimitiveInt", value=5)),
        {"seed": "10.value"},
    ),
    "the seed is linked to a node for seeds": (
        changed(n3=sampler(seed=["10", 0]), n10=node("Seed (rgthree)", seed=5)),
        {"seed": "10.seed"},
    ),
    "the seed is computed": (
        changed(
            n3=sampler(seed=["10", 0]), n10=node("Add", value=5, int=["11", 0]),
            n11=node("PrimitiveInt", value=1),
        ),
        {"seed": ""},
    ),
    "the steps come from a node with nothing to set": (
        changed(n3=sampler(steps=["10", 0]), n10=node("Three")),
        {"steps": ""},
    ),
    "the size is linked to primitives": (
        changed(
            n5=node("EmptyLatentImage", width=["10", 0], height=["11", 0], batch_size=1),
            n10=node("PrimitiveInt", value=512), n11=node("PrimitiveInt", value=768),
        ),
        {"width": "10.value", "height": "11.value"},
    ),
    "the model has no loader": (
        changed(n3=sampler(model=["10", 0]), n10=node("Mystery", model=["11", 0]), n11=node("M")),
        {"model": ""},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "difference"), TABLE.values(), ids=TABLE.keys())
def test_parameters_are_found_by_following_the_links(
    graph: Graph, difference: dict[str, str]
) -> None:
    expected = {k: v for k, v in {**PLAIN_TARGETS, **difference}.items() if v}

    assert targets(discover(graph)) == expected


def test_a_guider_without_negative_side_leads_to_the_text() -> None:
    found = discover(ADVANCED)

    assert targets(found) == {
        "text": "6.text",
        "seed": "12.noise_seed",
        "steps": "14.steps",
        "sampler": "13.sampler_name",
        "scheduler": "14.scheduler",
        "width": "5.width",
        "height": "5.height",
        "batch": "5.batch_size",
        "model": "4.unet_name",
    }


@pytest.mark.parametrize(
    ("guider", "text_at"),
    [
        (node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=4.0), "6"),
        (
            node(
                "DualCFGGuider",
                **{"model": ["4", 0], "cond1": ["6", 0], "cond2": ["8", 0]},
                negative=["7", 0],
                cfg=4.0,
            ),
            "6",
        ),
    ],
    ids=["CFGGuider", "DualCFGGuider"],
)
def test_a_guider_with_two_sides_leads_to_both_texts(guider: Any, text_at: str) -> None:
    graph = {**ADVANCED, "7": text("blurry"), "8": text("a dog"), "11": guider}

    found = targets(discover(check_graph(graph)))

    assert (found["text"], found["negative"], found["cfg"]) == (
        f"{text_at}.text",
        "7.text",
        "11.cfg",
    )


def test_strength_of_an_advanced_sampler_is_in_its_scheduler() -> None:
    graph = {
        **ADVANCED,
        "5": node("VAEEncode", pixels=["20", 0], vae=["4", 0]),
        "20": node("LoadImage", image="a.png"),
    }

    assert targets(discover(graph))["strength"] == "14.denoise"


def test_a_text_of_several_nodes_is_not_guessed() -> None:
    graph = changed(
        n6=text(["10", 0]),
        n10=node("Text Concatenate", text_a=["11", 0], text_b=["12:1", 0], text_c="style"),
        n11={**node("Text Multiline", text="a cat"), "_meta": {"title": "Subject"}},
        n12_1=node("Text Multiline", text="in the rain"),
    )

    found = discover(graph)

    assert "text" not in found.parameters
    assert targets(found) == {
        "text_11": "11.text",
        "text_12_1": "12:1.text",
        "text_10": "10.text_c",
        **{k: v for k, v in PLAIN_TARGETS.items() if k != "text"},
    }
    assert found.parameters["text_11"].role is Role.TEXT
    assert found.notes == (
        "The positive prompt is put together from nodes 11 (Subject), 12:1 (Text Multiline), "
        "10 (Text Concatenate): " + HOW,
    )


def test_the_texts_of_one_node_are_one_choice() -> None:
    graph = changed(
        n3=sampler(positive=["10", 0]),
        n6=node("CLIPTextEncodeSDXL", clip=["4", 1], text_g="a cat", text_l="a cat"),
        n10=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["11", 0]),
        n11=node("CLIPTextEncodeSDXL", clip=["4", 1], text_g="a dog", text_l="a dog"),
    )

    found = discover(graph)

    assert (
        targets(found).items()
        >= {
            "text_6": "6.text_g, 6.text_l",
            "text_11": "11.text_g, 11.text_l",
        }.items()
    )
    assert found.notes == (
        "The positive prompt is put together from nodes 6 (CLIPTextEncodeSDXL), "
        "11 (CLIPTextEncodeSDXL): " + HOW,
    )


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (
            {"1": text("a cat")},
            "It is not clear which text is the prompt: " + HOW,
        ),
        (changed(n6=node("Mystery"), n7=text("x")), "not clear which text"),
        (
            changed(n6=text(["10", 0]), n10=node("Mystery", seed=1)),
            "not clear which text",
        ),
        (changed(n6=text(5)), "not clear which text"),
        (changed(n5=node("Mystery")), "The size comes from elsewhere"),
    ],
    ids=["no sampler", "no encoder", "no source", "a number for a text", "no size"],
)
def test_what_is_not_found_is_said(graph: Graph, told: str) -> None:
    (note,) = discover(graph).notes

    assert told in note


def test_a_workflow_without_sampler_and_texts_lacks_nothing() -> None:
    found = discover({"1": node("EmptyImage", width=1, height=1, seed=3)})

    assert found.notes == ()
    assert targets(found) == {"seed": "1.seed"}


def test_a_workflow_without_a_negative_prompt_lacks_nothing() -> None:
    graph = changed(n7=None, n3=sampler(negative=["6", 0]))

    assert discover(graph).notes == ()


def test_a_graph_without_sampler_still_has_seeds_and_pictures() -> None:
    graph = {"1": node("Noise", seed=3), "2": node("LoadImage", image="a.png")}

    assert targets(discover(graph)) == {"seed": "1.seed", "image": "2.image"}


@pytest.mark.parametrize(
    "graph",
    [
        changed(n6=node("Loop", conditioning=["10", 0]), n10=node("Loop", conditioning=["6", 0])),
        changed(
            n6=text(["10", 0]), n10=node("Loop", text=["11", 0]), n11=node("Loop", text=["10", 0])
        ),
        changed(n5=node("Loop", samples=["10", 0]), n10=node("Loop", samples=["5", 0])),
        changed(n4=node("Loop", model=["10", 0]), n10=node("Loop", model=["4", 0])),
        changed(n3=sampler(latent_image=["3", 0])),
        changed(n3=sampler(latent_image=["2", 0]), n2=sampler(latent_image=["3", 0])),
        changed(
            n10=node("Loop", positive=["10", 0], negative=["10", 1]),
            n3=sampler(positive=["10", 0]),
        ),
    ],
    ids=["conditionings", "texts", "latents", "models", "itself", "samplers", "ControlNets"],
)  # fmt: skip
def test_a_graph_that_runs_in_circles_is_read_to_an_end(graph: Graph) -> None:
    found = discover(graph)

    assert found.notes or found.parameters["text"]


def test_a_sampler_in_a_circle_of_itself_is_still_the_base() -> None:
    assert targets(discover(changed(n3=sampler(latent_image=["3", 0]))))["steps"] == "3.steps"


def test_a_slot_that_no_node_has_is_followed_by_its_side() -> None:
    graph = changed(n10=CONTROLLED, n3=sampler(positive=["10", -3], negative=["10", -3]))

    found = targets(discover(graph))

    assert (found["text"], found["negative"]) == ("6.text", "7.text")


# Types and ranges


def core(**inputs: InputType) -> NodeTypes:
    return {"KSampler": NodeType("KSampler", "KSampler", inputs)}


def test_the_core_ranges_hold_while_no_server_was_asked() -> None:
    found = discover(PLAIN).parameters

    assert (found["steps"].type, found["steps"].min, found["steps"].max) == ("INT", 1, 10000)
    assert (found["cfg"].type, found["cfg"].default) == ("FLOAT", 7.0)
    assert (found["sampler"].type, found["sampler"].choices) == ("STRING", ())
    assert found["text"].default == "a cat"


def test_a_server_tells_types_ranges_and_choices() -> None:
    nodes = core(
        steps=InputType("steps", "INT", min=2, max=50, step=2),
        sampler_name=InputType("sampler_name", "COMBO", choices=("euler", "ddim")),
    )

    found = discover(PLAIN, nodes).parameters

    assert (found["steps"].min, found["steps"].max, found["steps"].step) == (2, 50, 2)
    assert (found["sampler"].type, found["sampler"].choices) == ("COMBO", ("euler", "ddim"))
    assert found["seed"] == discover(PLAIN).parameters["seed"]


def test_a_parameter_of_two_inputs_has_the_narrower_range() -> None:
    graph = {"1": node("A", seed=1), "2": node("B", seed=1)}
    nodes = {
        "A": NodeType("A", "A", {"seed": InputType("seed", "INT", min=0, max=2**64 - 1, step=1)}),
        "B": NodeType("B", "B", {"seed": InputType("seed", "INT", min=1, max=2**32, step=5)}),
    }
    seed = Parameter("seed", Role.SEED, (InputRef("1", "seed"), InputRef("2", "seed")), "INT", 1)

    both = typed(seed, graph, nodes)

    assert (both.min, both.max, both.step) == (1, 2**32, 1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "BOOLEAN"), (1, "INT"), (1.0, "FLOAT"), ("a", "STRING"), (None, "STRING")],
)
def test_a_value_tells_its_type(value: object, kind: str) -> None:
    assert type_of(value) == kind


# The last resorts


def test_text_inputs_are_those_that_hold_a_text() -> None:
    graph = changed(
        n10=node("PrimitiveString", value="a"),
        n11=node("PrimitiveInt", value="5"),
        n12=node("Encode", text=["10", 0], text_g="g"),
        n13=node("StringConcatenate", string_a="not a name of ours"),
    )

    assert [str(ref) for ref in text_inputs(graph)] == ["6.text", "7.text", "10.value", "12.text_g"]


@pytest.mark.parametrize(
    ("graph", "ref"),
    [
        (PLAIN, "6.text"),
        ({"1": node("Other", text="a"), "2": node("Text Multiline", text="b")}, "2.text"),
        ({"1": node("Other", text="a")}, "None"),
        ({"1": text(["2", 0]), "2": node("PrimitiveString", value="a")}, "None"),
    ],
    ids=["an encoder", "a text node", "another class", "a linked text"],
)
def test_the_first_text_input_is_the_last_resort(graph: Graph, ref: str) -> None:
    assert str(first_text_input(graph)) == ref


# Whole workflows


def shipped(name: str) -> Workflow:
    sidecar = parse_sidecar((SHIPPED / f"{name}.yaml").read_text())
    return Workflow.of(
        name, check_graph(parse_json((SHIPPED / f"{name}.json").read_bytes())), sidecar
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "postcard",
            {
                "text": "1.value",
                "seed": "6.seed, 21.seed, 25.seed",
                "width": "3.width",
                "height": "3.height",
                "batch": "3.batch_size",
            },
        ),
        (
            "txt2img",
            {
                "text": "2.text",
                "negative": "3.text",
                "seed": "5.seed",
                "steps": "5.steps",
                "cfg": "5.cfg",
                "sampler": "5.sampler_name",
                "scheduler": "5.scheduler",
                "width": "4.width",
                "height": "4.height",
                "batch": "4.batch_size",
                "model": "1.ckpt_name",
            },
        ),
        (
            "flux",
            {
                "text": "4.text",
                "seed": "8.noise_seed",
                "steps": "10.steps",
                "cfg": "5.guidance",
                "sampler": "9.sampler_name",
                "scheduler": "10.scheduler",
                "width": "6.width",
                "height": "6.height",
                "batch": "6.batch_size",
                "model": "1.unet_name",
            },
        ),
        (
            "img2img",
            {
                "text": "5.text",
                "negative": "6.text",
                "seed": "7.seed",
                "steps": "7.steps",
                "cfg": "7.cfg",
                "sampler": "7.sampler_name",
                "scheduler": "7.scheduler",
                "strength": "7.denoise",
                "model": "1.ckpt_name",
                "image": "2.image",
            },
        ),
        ("upscale", {"image": "1.image"}),
    ],
    ids=["postcard", "txt2img", "flux", "img2img", "upscale"],
)
def test_the_workflows_that_ship_have_these_parameters(name: str, expected: dict[str, str]) -> None:
    found = shipped(name).parameters({})

    assert targets(Discovery(found)) == expected


def real(name: str) -> Graph:
    path = REAL / f"{name}.json"
    if not path.exists():
        # They are other people's files, so they are no part of this project.
        pytest.skip("the collection of workflows from real servers is not on this machine")
    return check_graph(parse_json(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "sdxl",
            {
                "text": "6.text",
                "negative": "7.text",
                "seed": "3.seed",
                "steps": "3.steps",
                "width": "5.width",
                "height": "5.height",
            },
        ),
        ("flux", {"text": "38.text", "negative": "13.text", "model": "10.unet_name"}),
        ("flux_emo", {"text": "12.text", "negative": "13.text", "model": "10.unet_name"}),
    ],
    ids=["sdxl", "flux", "flux_emo"],
)
def test_workflows_from_real_servers_have_these_parameters(
    name: str, expected: dict[str, str]
) -> None:
    found = discover(real(name))

    assert expected.items() <= targets(found).items()
    assert found.notes == ()


def test_a_real_prompt_of_three_texts_is_not_guessed() -> None:
    found = discover(real("flux-living-xhs-v2"))

    assert "text" not in found.parameters
    assert found.parameters.keys() >= {"text_123", "text_126", "text_124"}
    (note,) = [each for each in found.notes if "put together" in each]
    assert all(node_id in note for node_id in ("123", "126", "124"))


def test_discovery_leaves_the_graph_as_it_was() -> None:
    before = json.dumps(PLAIN)

    discover(PLAIN)

    assert json.dumps(PLAIN) == before


# Files made to take for ever


def sampling(number: int) -> Graph:
    """That many samplers, which all read node 3 on both sides."""
    linked = {"model": ["1", 0], "positive": ["3", 0], "negative": ["3", 0]}
    samplers = {
        f"s{each}": {"class_type": "KSampler", "inputs": {"steps": 20, "seed": 1, **linked}}
        for each in range(number)
    }
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        **samplers,
    }


def joining(number: int, node_id: str, *, slots: bool) -> dict[str, Any]:
    """A node with that many links to another's one output, or each to another of its outputs."""
    inputs = {f"conditioning_{each}": [node_id, each if slots else 0] for each in range(number)}
    return {"class_type": "Join", "inputs": inputs}


@pytest.mark.parametrize(
    "graph",
    [
        {**sampling(400), "3": joining(8000, "2", slots=False)},
        {**sampling(400), "3": joining(8000, "2", slots=True)},
        {**sampling(1), "3": joining(1000, "4", slots=True), "4": joining(1000, "2", slots=False)},
    ],
    ids=["one output", "8,000 outputs", "a join of a join"],
)
def test_a_file_made_to_take_for_ever_is_looked_through_in_seconds(graph: Graph) -> None:
    check_graph(graph)
    began = time.process_time()

    found = discover(graph)

    assert time.process_time() - began < 5
    assert found.parameters["text"].targets == (InputRef("2", "text"),)
