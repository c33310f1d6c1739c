"""An application of the MONAI Deploy App SDK: a DICOM series in, a DICOM segmentation out. Research use only.

    python app.py --input DIR --model model.ts --output DIR

It lies beside the bundle's folder `scripts`, which the configuration inside model.ts names. In a container the SDK
takes the paths from HOLOSCAN_INPUT_PATH, HOLOSCAN_OUTPUT_PATH and HOLOSCAN_MODEL_PATH.
"""

from pathlib import Path
from zipfile import ZipFile

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Image, IOType
from monai.deploy.operators import (
    DICOMDataLoaderOperator,
    DICOMSegmentationWriterOperator,
    DICOMSeriesSelectorOperator,
    DICOMSeriesToVolumeOperator,
    MonaiBundleInferenceOperator,
)
from monai.deploy.operators.dicom_seg_writer_operator import SegmentDescription
from monai.deploy.operators.dicom_utils import ModelInfo
from monai.deploy.operators.monai_bundle_inference_operator import BundleConfigNames, IOMapping, get_bundle_config
from pydicom.sr.codedict import codes

RULES = '{"selections": [{"name": "MR", "conditions": {"Modality": "(?i)MR"}}]}'
TYPES = {  # of what the segments show, in SNOMED CT
    "body": codes.SCT.EntireBody,
    "bones": codes.SCT.Bone,
    "bladder": codes.SCT.Bladder,
    "rectum": codes.SCT.Rectum,
    "prostate": codes.SCT.Prostate,
}


def config_names(model: str) -> list[str]:
    """The configurations inside the exported file: inference, then the patch that it was exported with."""
    names = {Path(name).stem for name in ZipFile(model).namelist() if name.endswith(".json")}
    return ["inference", *sorted(names - {"inference", "metadata"})]


def describe(name: str, version: str) -> SegmentDescription:
    """What the DICOM segmentation says of one class."""
    return SegmentDescription(
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=TYPES.get(name, codes.SCT.AnatomicalStructure),
        algorithm_name="male pelvis MRI segmentation",
        algorithm_version=version,
    )


class SegmentSeries(Application):
    """Labels the first MR series of a folder."""

    def compose(self):
        context = Application.init_app_context(self.argv)
        model = context.models.get().path
        names = config_names(model)
        bundle = get_bundle_config(model, names)
        about = bundle["_meta_"]
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=RULES, name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        inference = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_config_names=BundleConfigNames(config_names=names),
            bundle_path=model,
            name="inference",
        )
        writer = DICOMSegmentationWriterOperator(
            self,
            segment_descriptions=[describe(name, about["version"]) for name in bundle["class_names"][1:]],
            output_folder=Path(context.output_path),
            model_info=ModelInfo(about["authors"], about["name"], about["version"]),
            name="writer",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, inference, {("image", "image")})
        self.add_flow(selector, writer, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(inference, writer, {("pred", "seg_image")})


if __name__ == "__main__":
    SegmentSeries().run()
