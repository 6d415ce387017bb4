"""The node classes the stand-in knows.

Names, types, ranges, defaults and outputs are those of ComfyUI 0.27.0; tooltips and descriptions
are left out. Lists of model files stay open here: `FilesOf` stands for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced")
SAVERS = {"SaveImage": "output", "PreviewImage": "temp"}
LITERAL_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "*")

SEED_MAX = 2**64 - 1
SIDE_MAX = 16384
WORD_MAX = 2**63 - 1

SAMPLER_NAMES = (
    "euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 exp_heun_2_x0"
    " exp_heun_2_x0_sde dpm_2 dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral"
    " dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde"
    " dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm"
    " lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral"
    " res_multistep_ancestral_cfg_pp gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2"
    " seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2"
)
SCHEDULERS = (
    "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal"
)
CLIP_TYPES = (
    "stable_diffusion stable_cascade sd3 stable_audio mochi ltxv pixart cosmos lumina2 wan hidream"
    " chroma ace omnigen2 qwen_image hunyuan_image flux2 ovis longcat_image cogvideox lens pixeldit"
    " ideogram4 boogu krea2"
)
DUAL_CLIP_TYPES = (
    "sdxl sd3 flux hunyuan_video hidream hunyuan_image hunyuan_video_15 kandinsky5"
    " kandinsky5_image ltxv newbie ace"
)
SCALE_METHODS = "nearest-exact bilinear area bicubic lanczos"


@dataclass(frozen=True, slots=True)
class FilesOf:
    """Stands for the names in a model folder; "input" is the folder of uploaded pictures."""

    folder: str


Config = tuple[Any, dict[str, Any]]
"""An input: its type, or the list of its choices, and the options."""


def _int(default: int, low: int, high: int, **more: Any) -> Config:
    return "INT", {"default": default, "min": low, "max": high, **more}


def _float(default: float, low: float, high: float, step: float = 0.01, **more: Any) -> Config:
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step, **more}


def _choice(values: str | FilesOf, **more: Any) -> Config:
    """A combo in the older of its two shapes: `[[values], options]`."""
    return values.split() if isinstance(values, str) else values, more


def _combo(values: str | FilesOf) -> Config:
    """A combo in the newer of its two shapes: `["COMBO", {"options": [values]}]`."""
    options = values.split() if isinstance(values, str) else values
    return "COMBO", {"multiselect": False, "options": options}


def _text(**options: Any) -> Config:
    return "STRING", options


@dataclass(frozen=True, slots=True)
class NodeClass:
    title: str | None
    outputs: str
    required: Mapping[str, Config]
    optional: Mapping[str, Config]
    hidden: Mapping[str, Any]
    names: str
    is_output: bool


def _in(**inputs: str | Config) -> dict[str, Config]:
    """Inputs by name; a bare type is an input that takes a link only."""
    return {name: (kind, {}) if isinstance(kind, str) else kind for name, kind in inputs.items()}


def _node(
    title: str | None,
    outputs: str,
    required: Mapping[str, Config],
    *,
    optional: Mapping[str, Config] = MappingProxyType({}),
    hidden: Mapping[str, Any] = MappingProxyType({}),
    names: str = "",
    is_output: bool = False,
) -> NodeClass:
    return NodeClass(title, outputs, required, optional, hidden, names or outputs, is_output)


SEED = _int(0, 0, SEED_MAX, control_after_generate=True)
STEPS = _int(20, 1, 10000)
CFG = _float(8.0, 0.0, 100.0, 0.1, round=0.01)
DENOISE = _float(1.0, 0.0, 1.0)
BATCH = _int(1, 1, 4096)
LATENT_SIDE = _int(512, 16, SIDE_MAX, step=8)
SD3_SIDE = _int(1024, 16, SIDE_MAX, step=16)
FLUX_SIDE = _int(1024, 16, SIDE_MAX, step=8)
IMAGE_SIDE = _int(512, 1, SIDE_MAX, step=1)
SCALED_SIDE = _int(512, 0, SIDE_MAX, step=1)
OFFSET = _int(0, 0, SIDE_MAX, step=1)
PADDING = _int(0, 0, SIDE_MAX, step=8)
STRENGTH = _float(1.0, -100.0, 100.0)
DEVICE = _choice("default cpu", advanced=True)
LONG_TEXT = _text(multiline=True)
PNG_INFO = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}

NODES: Mapping[str, NodeClass] = {
    "CheckpointLoaderSimple": _node(
        "Load Checkpoint", "MODEL CLIP VAE", _in(ckpt_name=_choice(FilesOf("checkpoints")))
    ),
    "UNETLoader": _node(
        "Load Diffusion Model",
        "MODEL",
        _in(
            unet_name=_choice(FilesOf("diffusion_models")),
            weight_dtype=_choice("default fp8_e4m3fn fp8_e4m3fn_fast fp8_e5m2", advanced=True),
        ),
    ),
    "CLIPLoader": _node(
        "Load CLIP",
        "CLIP",
        _in(clip_name=_choice(FilesOf("text_encoders")), type=_choice(CLIP_TYPES)),
        optional=_in(device=DEVICE),
    ),
    "DualCLIPLoader": _node(
        "Load CLIP (Dual)",
        "CLIP",
        _in(
            clip_name1=_choice(FilesOf("text_encoders")),
            clip_name2=_choice(FilesOf("text_encoders")),
            type=_choice(DUAL_CLIP_TYPES),
        ),
        optional=_in(device=DEVICE),
    ),
    "VAELoader": _node("Load VAE", "VAE", _in(vae_name=_choice(FilesOf("vae")))),
    "UpscaleModelLoader": _node(
        "Load Upscale Model", "UPSCALE_MODEL", _in(model_name=_combo(FilesOf("upscale_models")))
    ),
    "LoraLoader": _node(
        "Load LoRA (Model and CLIP)",
        "MODEL CLIP",
        _in(
            model="MODEL",
            clip="CLIP",
            lora_name=_choice(FilesOf("loras")),
            strength_model=STRENGTH,
            strength_clip=STRENGTH,
        ),
    ),
    "LoraLoaderModelOnly": _node(
        "Load LoRA",
        "MODEL",
        _in(model="MODEL", lora_name=_choice(FilesOf("loras")), strength_model=STRENGTH),
    ),
    "ModelSamplingFlux": _node(
        "ModelSamplingFlux",
        "MODEL",
        _in(
            model="MODEL",
            max_shift=_float(1.15, 0.0, 100.0, advanced=True),
            base_shift=_float(0.5, 0.0, 100.0, advanced=True),
            width=FLUX_SIDE,
            height=FLUX_SIDE,
        ),
    ),
    "CLIPTextEncode": _node(
        "CLIP Text Encode (Prompt)",
        "CONDITIONING",
        _in(text=_text(multiline=True, dynamicPrompts=True), clip="CLIP"),
    ),
    "FluxGuidance": _node(
        None,
        "CONDITIONING",
        _in(conditioning="CONDITIONING", guidance=_float(3.5, 0.0, 100.0, 0.1)),
    ),
    "ConditioningZeroOut": _node(
        "Conditioning Zero Out", "CONDITIONING", _in(conditioning="CONDITIONING")
    ),
    "ConditioningCombine": _node(
        "Conditioning (Combine)",
        "CONDITIONING",
        _in(conditioning_1="CONDITIONING", conditioning_2="CONDITIONING"),
    ),
    "KSampler": _node(
        "KSampler",
        "LATENT",
        _in(
            model="MODEL",
            seed=SEED,
            steps=STEPS,
            cfg=CFG,
            sampler_name=_choice(SAMPLER_NAMES),
            scheduler=_choice(SCHEDULERS),
            positive="CONDITIONING",
            negative="CONDITIONING",
            latent_image="LATENT",
            denoise=DENOISE,
        ),
    ),
    "KSamplerAdvanced": _node(
        "KSampler (Advanced)",
        "LATENT",
        _in(
            model="MODEL",
            add_noise=_choice("enable disable", advanced=True),
            noise_seed=SEED,
            steps=STEPS,
            cfg=CFG,
            sampler_name=_choice(SAMPLER_NAMES),
            scheduler=_choice(SCHEDULERS),
            positive="CONDITIONING",
            negative="CONDITIONING",
            latent_image="LATENT",
            start_at_step=_int(0, 0, 10000, advanced=True),
            end_at_step=_int(10000, 0, 10000, advanced=True),
            return_with_leftover_noise=_choice("disable enable", advanced=True),
        ),
    ),
    "BasicGuider": _node("Basic Guider", "GUIDER", _in(model="MODEL", conditioning="CONDITIONING")),
    "CFGGuider": _node(
        "CFG Guider",
        "GUIDER",
        _in(model="MODEL", positive="CONDITIONING", negative="CONDITIONING", cfg=CFG),
    ),
    "BasicScheduler": _node(
        None,
        "SIGMAS",
        _in(model="MODEL", scheduler=_combo(SCHEDULERS), steps=STEPS, denoise=DENOISE),
    ),
    "KSamplerSelect": _node(None, "SAMPLER", _in(sampler_name=_combo(SAMPLER_NAMES))),
    "RandomNoise": _node(None, "NOISE", _in(noise_seed=SEED)),
    "SamplerCustomAdvanced": _node(
        None,
        "LATENT LATENT",
        _in(
            noise="NOISE",
            guider="GUIDER",
            sampler="SAMPLER",
            sigmas="SIGMAS",
            latent_image="LATENT",
        ),
        names="output denoised_output",
    ),
    "EmptyLatentImage": _node(
        "Empty Latent Image", "LATENT", _in(width=LATENT_SIDE, height=LATENT_SIDE, batch_size=BATCH)
    ),
    "EmptySD3LatentImage": _node(
        None, "LATENT", _in(width=SD3_SIDE, height=SD3_SIDE, batch_size=BATCH)
    ),
    "VAEDecode": _node("VAE Decode", "IMAGE", _in(samples="LATENT", vae="VAE")),
    "VAEEncode": _node("VAE Encode", "LATENT", _in(pixels="IMAGE", vae="VAE")),
    "SaveImage": _node(
        "Save Image",
        "IMAGE",
        _in(images="IMAGE", filename_prefix=_text(default="ComfyUI")),
        names="images",
        hidden=PNG_INFO,
        is_output=True,
    ),
    "PreviewImage": _node(
        "Preview Image",
        "IMAGE",
        _in(images="IMAGE"),
        names="images",
        hidden=PNG_INFO,
        is_output=True,
    ),
    "LoadImage": _node(
        "Load Image", "IMAGE MASK", _in(image=_choice(FilesOf("input"), image_upload=True))
    ),
    "EmptyImage": _node(
        "Empty Image",
        "IMAGE",
        _in(
            width=IMAGE_SIDE,
            height=IMAGE_SIDE,
            batch_size=BATCH,
            color=_int(0, 0, 0xFFFFFF, step=1, display="color"),
        ),
    ),
    "ImageScale": _node(
        "Upscale Image",
        "IMAGE",
        _in(
            image="IMAGE",
            upscale_method=_choice(SCALE_METHODS),
            width=SCALED_SIDE,
            height=SCALED_SIDE,
            crop=_choice("disabled center"),
        ),
    ),
    "ImageScaleBy": _node(
        "Upscale Image By",
        "IMAGE",
        _in(image="IMAGE", upscale_method=_choice(SCALE_METHODS), scale_by=_float(1.0, 0.01, 8.0)),
    ),
    "ImageUpscaleWithModel": _node(
        "Upscale Image (using Model)", "IMAGE", _in(upscale_model="UPSCALE_MODEL", image="IMAGE")
    ),
    "ImageInvert": _node("Invert Image Colors", "IMAGE", _in(image="IMAGE")),
    "ImageBatch": _node("Batch Images", "IMAGE", _in(image1="IMAGE", image2="IMAGE")),
    "ImagePadForOutpaint": _node(
        "Pad Image for Outpainting",
        "IMAGE MASK",
        _in(
            image="IMAGE",
            left=PADDING,
            top=PADDING,
            right=PADDING,
            bottom=PADDING,
            feathering=_int(40, 0, SIDE_MAX, step=1, advanced=True),
        ),
    ),
    "ImageCompositeMasked": _node(
        "Image Composite Masked",
        "IMAGE",
        _in(
            destination="IMAGE",
            source="IMAGE",
            x=OFFSET,
            y=OFFSET,
            resize_source=("BOOLEAN", {"default": False}),
        ),
        optional=_in(mask="MASK"),
    ),
    "ImageAddNoise": _node(
        "Add Noise to Image", "IMAGE", _in(image="IMAGE", seed=SEED, strength=_float(0.5, 0.0, 1.0))
    ),
    "ImageQuantize": _node(
        "Quantize Image",
        "IMAGE",
        _in(
            image="IMAGE",
            colors=_int(256, 1, 256, step=1),
            dither=_combo("none floyd-steinberg bayer-2 bayer-4 bayer-8 bayer-16"),
        ),
    ),
    "ImageBlur": _node(
        "Blur Image",
        "IMAGE",
        _in(image="IMAGE", blur_radius=_int(1, 1, 31, step=1), sigma=_float(1.0, 0.1, 10.0, 0.1)),
    ),
    "ImageScaleToMaxDimension": _node(
        "Scale Image to Max Dimension",
        "IMAGE",
        _in(
            image="IMAGE",
            upscale_method=_combo("area lanczos bilinear nearest-exact bilinear bicubic"),
            largest_size=SCALED_SIDE,
        ),
    ),
    "ImageBlend": _node(
        "Blend Images",
        "IMAGE",
        _in(
            image1="IMAGE",
            image2="IMAGE",
            blend_factor=_float(0.5, 0.0, 1.0),
            blend_mode=_combo("normal multiply screen overlay soft_light difference"),
        ),
    ),
    "GetImageSize": _node(
        "Get Image Size",
        "INT INT INT",
        _in(image="IMAGE"),
        hidden={"unique_id": ["UNIQUE_ID"]},
        names="width height batch_size",
    ),
    "ImageToMask": _node(
        "Convert Image to Mask",
        "MASK",
        _in(image="IMAGE", channel=_combo("red green blue alpha")),
    ),
    "MaskToImage": _node("Convert Mask to Image", "IMAGE", _in(mask="MASK")),
    "ThresholdMask": _node("Threshold Mask", "MASK", _in(mask="MASK", value=_float(0.5, 0.0, 1.0))),
    "FeatherMask": _node(
        "Feather Mask",
        "MASK",
        _in(mask="MASK", left=OFFSET, top=OFFSET, right=OFFSET, bottom=OFFSET),
    ),
    "SolidMask": _node(
        "Create Solid Mask",
        "MASK",
        _in(value=_float(1.0, 0.0, 1.0), width=IMAGE_SIDE, height=IMAGE_SIDE),
    ),
    "PrimitiveString": _node("Text", "STRING", _in(value=_text(multiline=False))),
    "PrimitiveStringMultiline": _node("Text (Multiline)", "STRING", _in(value=LONG_TEXT)),
    "PrimitiveInt": _node(
        "Int",
        "INT",
        _in(value=("INT", {"min": -WORD_MAX, "max": WORD_MAX, "control_after_generate": "fixed"})),
    ),
    "PrimitiveFloat": _node(
        "Float", "FLOAT", _in(value=("FLOAT", {"min": -WORD_MAX, "max": WORD_MAX, "step": 0.1}))
    ),
    "StringConcatenate": _node(
        "Concatenate Text",
        "STRING",
        _in(string_a=LONG_TEXT, string_b=LONG_TEXT, delimiter=_text(default="", multiline=False)),
    ),
    "StringLength": _node("Text Length", "INT", _in(string=LONG_TEXT), names="length"),
    "PreviewAny": _node("Preview as Text", "STRING", _in(source="*"), is_output=True),
}


def sources(graph: Mapping[str, Any], node_id: str) -> list[str]:
    """The nodes a node is linked to, in the order of its inputs; unknown inputs do not count."""
    node = graph[node_id]
    known = NODES[node["class_type"]]
    return [
        value[0]
        for name, value in node["inputs"].items()
        if isinstance(value, list) and (name in known.required or name in known.optional)
    ]
