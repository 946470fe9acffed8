"""What ships with p2pkit, as one plugin. It uses the same hooks, and imports the same public API, as anyone else's."""

from __future__ import annotations

from functools import partial

from p2pkit import hookimpl
from p2pkit.hookspecs import Register, Rest


@hookimpl
def register_generators(register: Register) -> None:
    """The paper's generators, and a U-Net around any network of timm."""
    from p2pkit.builtin.generators.resnet import ResNet
    from p2pkit.builtin.generators.timm_unet import TimmUNet
    from p2pkit.builtin.generators.unet import UNet

    register("unet", UNet)
    register("encoder_decoder", partial(UNet, skips=False))
    register("resnet", ResNet)
    register("timm_unet", TimmUNet)


@hookimpl
def register_discriminators(register: Register) -> None:
    """The paper's discriminators, by their receptive fields, and Projected GAN's."""
    from p2pkit.builtin.discriminators.patchgan import PatchGAN
    from p2pkit.builtin.discriminators.projected import Projected

    register("patchgan", PatchGAN)
    register("patchgan_1", partial(PatchGAN, layers=0))
    register("patchgan_16", partial(PatchGAN, layers=1))
    register("patchgan_70", partial(PatchGAN, layers=3))
    register("patchgan_286", partial(PatchGAN, layers=5))
    register("projected", Projected)


@hookimpl
def register_losses(register: Register) -> None:
    """Adversarial losses, gradient penalties, and distances between pixels, features and structures."""
    from p2pkit.builtin.losses.adversarial import GAN, LSGAN, Hinge
    from p2pkit.builtin.losses.features import FeatureMatching
    from p2pkit.builtin.losses.gradient_penalty import R1, WGANGP
    from p2pkit.builtin.losses.perceptual import Perceptual
    from p2pkit.builtin.losses.pixels import L1, L2, Charbonnier
    from p2pkit.builtin.losses.structure import SSIM, TotalVariation

    register("gan", GAN)
    register("lsgan", LSGAN)
    register("hinge", Hinge)
    register("wgan_gp", WGANGP)
    register("r1", R1)
    register("feature_matching", FeatureMatching)
    register("l1", L1)
    register("l2", L2)
    register("charbonnier", Charbonnier)
    register("ssim", SSIM)
    register("total_variation", TotalVariation)
    register("perceptual", Perceptual)


@hookimpl
def register_datasets(register: Register) -> None:
    """Pairs from files and archives, photos, planes of volumes, drawn pairs, and sources that are made of targets."""
    from p2pkit.builtin.datasets.archives import ArchivePairs
    from p2pkit.builtin.datasets.cityscapes import Cityscapes
    from p2pkit.builtin.datasets.from_targets import EdgesFromTargets, GrayFromTargets, HolesFromTargets
    from p2pkit.builtin.datasets.paired_folders import PairedFolders
    from p2pkit.builtin.datasets.photos import Photos
    from p2pkit.builtin.datasets.procedural_facades import ProceduralFacades
    from p2pkit.builtin.datasets.side_by_side import SideBySide
    from p2pkit.builtin.datasets.unpaired_folders import UnpairedFolders
    from p2pkit.builtin.datasets.volume_slices import VolumeSlices

    register("side_by_side", SideBySide)
    register("paired_folders", PairedFolders)
    register("unpaired_folders", UnpairedFolders)
    register("photos", Photos)
    register("volume_slices", VolumeSlices)
    register("pix2pix_archive", ArchivePairs)
    register("facades", partial(ArchivePairs, archive="facades"))
    register("maps", partial(ArchivePairs, archive="maps"))
    register("edges2shoes", partial(ArchivePairs, archive="edges2shoes"))
    register("edges2handbags", partial(ArchivePairs, archive="edges2handbags"))
    register("night2day", partial(ArchivePairs, archive="night2day"))
    register("cityscapes", Cityscapes)
    register("procedural_facades", ProceduralFacades)
    register("edges_from_targets", EdgesFromTargets)
    register("gray_from_targets", GrayFromTargets)
    register("holes_from_targets", HolesFromTargets)


@hookimpl
def register_methods(register: Register) -> None:
    """pix2pix."""
    from p2pkit.builtin.methods.pix2pix import Pix2Pix

    register("pix2pix", Pix2Pix)


@hookimpl
def register_metrics(register: Register) -> None:
    """Distances between pixels, features of trained networks and distributions, and scores of segmentations."""
    from p2pkit.builtin.metrics.colour import LabHistogram
    from p2pkit.builtin.metrics.inception import FID, KID
    from p2pkit.builtin.metrics.perceptual import DISTS, LPIPS
    from p2pkit.builtin.metrics.pixels import MAE, PSNR, SSIM, MultiScaleSSIM
    from p2pkit.builtin.metrics.segmentation import FCNScore, LabelScore

    register("mae", MAE)
    register("psnr", PSNR)
    register("ssim", SSIM)
    register("ms_ssim", MultiScaleSSIM)
    register("lpips", LPIPS)
    register("dists", DISTS)
    register("fid", FID)
    register("kid", KID)
    register("lab_histogram", LabHistogram)
    register("fcn_score", FCNScore)
    register("label_score", LabelScore)


@hookimpl
def register_encodings(register: Register) -> None:
    """Class maps, one channel a class."""
    from p2pkit.builtin.encodings.one_hot import OneHot

    register("one_hot", OneHot)


@hookimpl
def register_augmentations(register: Register) -> None:
    """Movements of both images, colour and noise of the source."""
    from p2pkit.builtin.augmentations.geometry import Affine, Elastic, Rotate90, flip
    from p2pkit.builtin.augmentations.source import ColourJitter, Noise

    register("flip", flip)
    register("rotate90", Rotate90)
    register("affine", Affine)
    register("elastic", Elastic)
    register("colour_jitter", ColourJitter)
    register("noise", Noise)


@hookimpl
def register_exporters(register: Register) -> None:
    """ONNX and PyTorch's own exported programs."""
    from p2pkit.builtin.exporters.onnx_file import ONNX
    from p2pkit.builtin.exporters.torch_program import TorchProgram

    register("onnx", ONNX)
    register("torch_program", TorchProgram)


@hookimpl
def register_image_formats(register: Register) -> None:
    """What Pillow reads, TIFF, NumPy's arrays, and DICOM and NIfTI, whose libraries are imported when one is read."""
    from p2pkit.images.arrays import NPY, NPZ
    from p2pkit.images.medical import DICOM, CompressedNIfTI, NIfTI
    from p2pkit.images.pictures import BMP, GIF, JPEG, PNG, WebP
    from p2pkit.images.tiff import TIFF

    register("png", PNG)
    register("jpeg", JPEG)
    register("webp", WebP)
    register("bmp", BMP)
    register("gif", GIF)
    register("npy", NPY)
    register("npz", NPZ)
    register("dicom", DICOM)  # before TIFF: a file may be both
    register("tiff", TIFF)
    register("nifti", NIfTI)
    register("nifti_gz", CompressedNIfTI)


@hookimpl
def register_optimizers(register: Register) -> Rest:
    """Adam, and later all others that timm, whose import takes a second, knows by name."""
    from p2pkit.builtin.optimizers.adam import adam

    register("adam", adam)

    def register_those_of_timm() -> None:
        from timm.optim import get_optimizer_info, list_optimizers

        from p2pkit.builtin.optimizers.of_timm import of_timm

        for name in map(str, list_optimizers(exclude_filters=["adam"])):
            register(name, of_timm(get_optimizer_info(name)))

    return register_those_of_timm


@hookimpl
def register_schedules(register: Register) -> None:
    """Functions of the place in the run, and one that goes by a validation metric."""
    from p2pkit.builtin.schedules.by_progress import Constant, Cosine, LinearDecay, Step
    from p2pkit.builtin.schedules.plateau import Plateau

    register("constant", Constant)
    register("linear_decay", LinearDecay)
    register("cosine", Cosine)
    register("step", Step)
    register("plateau", Plateau)


@hookimpl
def register_callbacks(register: Register) -> None:
    """An end for runs that have stopped getting better."""
    from p2pkit.builtin.callbacks.early_stopping import EarlyStopping

    register("early_stopping", EarlyStopping)
