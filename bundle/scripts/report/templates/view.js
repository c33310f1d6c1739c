"use strict";
// The page of a case: NiiVue draws what the element `data` holds. The address may say what is shown at first:
// #view=axial&off=1,2&opacity=0.8
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const boxes = [...document.querySelectorAll("#classes input")];
  const views = [...document.querySelectorAll("#views input")];

  if (!document.createElement("canvas").getContext("webgl2")) {
    picturesOnly("This browser has no WebGL2, which draws in 3D.");
    return;
  }
  document.body.classList.add("live");
  try {
    await show();
  } catch (error) {
    picturesOnly("The planes could not be drawn (" + error + ").");
  }

  function picturesOnly(reason) {
    document.body.classList.remove("live");
    byId("reason").textContent = reason + " Here are pictures in place of the planes to move through.";
  }

  async function show() {
    const nv = new niivue.Niivue({
      isRadiologicalConvention: true,
      isNearestInterpolation: true, // a label between two others would be a third class
      showAllOrientationMarkers: true,
      isOrientCube: true,
      fontMinPx: 18,
      fontColor: [1, 1, 1, 1],
      crosshairWidth: 0.25,
      crosshairWidthUnit: "percent",
      crosshairColor: [1, 1, 1, 0.5],
      multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
      tileMargin: 8,
      dragMode: niivue.DRAG_MODE.windowing,
      dragAndDropEnabled: false,
      loadingText: "",
      logLevel: "silent",
    });
    nv.onLocationChange = tell;
    await nv.attachToCanvas(byId("canvas"));
    const image = await niivue.NVImage.loadFromBase64({ base64: data.image, name: "image.nii.gz", colormap: "gray" });
    const labels = await niivue.NVImage.loadFromBase64({ base64: data.labels, name: "labels.nii.gz" });
    labels.setColormapLabel(colours());
    nv.addVolume(image);
    nv.addVolume(labels);
    nv.scene.crosshairPos = nv.mm2frac(data.cross);
    nv.createOnLocationChange();

    readAddress();
    turn();
    paint();
    addEventListener("hashchange", () => { readAddress(); turn(); paint(); });
    views.forEach((radio) => radio.addEventListener("change", turn));
    boxes.forEach((box) => box.addEventListener("change", paint));
    byId("opacity").addEventListener("input", paint);
    byId("show").addEventListener("click", () => checkAll(true));
    byId("hide").addEventListener("click", () => checkAll(false));

    function readAddress() {
      const words = new URLSearchParams(location.hash.slice(1));
      const off = words.get("off")?.split(",");
      const view = words.get("view") ?? "all";
      if (off) boxes.forEach((box) => { box.checked = !off.includes(box.value); });
      views.forEach((radio) => { radio.checked = radio.value === view; });
      if (words.has("opacity")) byId("opacity").value = words.get("opacity");
    }

    function turn() {
      const types = { axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal };
      const view = views.find((radio) => radio.checked)?.value;
      nv.setSliceType(view === "3D" ? nv.sliceTypeRender : types[view] ?? nv.sliceTypeMultiplanar);
    }

    function paint() {
      labels.setColormapLabel(colours());
      nv.setOpacity(1, Number(byId("opacity").value));
    }

    function checkAll(checked) {
      boxes.forEach((box) => { box.checked = checked; });
      paint();
    }
  }

  function colours() {
    const part = (start) => [0, ...data.classes.map((item) => parseInt(item.colour.slice(start, start + 2), 16))];
    return { R: part(1), G: part(3), B: part(5), A: [0, ...boxes.map((box) => (box.checked ? 255 : 0))] };
  }

  function tell(found) {
    const side = (value, more, less) => (value < 0 ? less : more) + " " + Math.abs(value).toFixed(1);
    const label = Math.round(found.values[1]?.value ?? 0);
    const sides = [["R", "L"], ["A", "P"], ["S", "I"]].map((ends, axis) => side(found.mm[axis], ...ends));
    byId("place").textContent = sides.join(", ") + " mm";
    byId("found").textContent = label > 0 ? data.classes[label - 1].name : data.background;
  }
})();
