"use strict";
// The page of a case: NiiVue draws what the element `data` holds. The address may say what is shown at first:
// #view=axial&off=1,2&opacity=0.8
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const boxes = [...document.querySelectorAll("#classes input")];
  const views = [...document.querySelectorAll("#views input")];

  const picturesOnly = (reason) => {
    document.body.classList.remove("live");
    byId("reason").textContent = reason + " These pictures are in place of the planes to move through.";
  };

  if (!document.createElement("canvas").getContext("webgl2")) {
    return picturesOnly("This browser has no WebGL2 (3D graphics).");
  }
  document.body.classList.add("live");
  try {
    await show();
  } catch (error) {
    picturesOnly("The page could not be drawn (" + error + ").");
  }

  async function show() {
    const nv = new niivue.Niivue({
      isRadiologicalConvention: true,
      isNearestInterpolation: true,
      isOrientationTextVisible: true,
      crosshairWidth: 1,
      crosshairWidthUnit: "voxels",
      crosshairColor: [1, 1, 1, 0.6],
      fontColor: [1, 1, 1, 1],
      backColor: [0, 0, 0, 1],
      multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
      tileMargin: 8,
      dragAndDropEnabled: false,
      loadingText: "",
      logLevel: "silent",
    });
    const canvas = byId("canvas");
    nv.onLocationChange = place;
    await nv.attachToCanvas(canvas);
    const image = await niivue.NVImage.loadFromBase64({ base64: data.image, name: "image.nii.gz", colormap: "gray" });
    const labels = await niivue.NVImage.loadFromBase64({ base64: data.labels, name: "labels.nii.gz" });
    image.cal_min = data.window[0];
    image.cal_max = data.window[1];
    labels.setColormapLabel(colours());
    nv.addVolume(image);
    nv.addVolume(labels);

    function colours() {
      const part = (place) => data.classes.map((item) => parseInt(item.colour.slice(place, place + 2), 16));
      const shown = boxes.map((box, index) => (box.checked ? data.classes[index].strength : 0));
      return {
        R: [0, ...part(1)],
        G: [0, ...part(3)],
        B: [0, ...part(5)],
        A: [0, ...shown],
        I: [0, ...data.classes.map((item) => item.value)],
      };
    }

    function paint() {
      labels.setColormapLabel(colours());
      nv.setOpacity(1, Number(byId("opacity").value));
    }

    function turn() {
      const types = { axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal };
      const view = views.find((radio) => radio.checked)?.value;
      nv.setSliceType(view === "3D" ? nv.sliceTypeRender : types[view] ?? nv.sliceTypeMultiplanar);
    }

    function address() {
      const words = new URLSearchParams(location.hash.slice(1));
      const off = (words.get("off") ?? "").split(",");
      boxes.forEach((box) => { box.checked = !off.includes(box.value); });
      views.forEach((radio) => { radio.checked = radio.value === (words.get("view") ?? views[0].value); });
      if (words.has("opacity")) byId("opacity").value = words.get("opacity");
    }

    function all(checked) {
      boxes.forEach((box) => { box.checked = checked; });
      paint();
    }

    address();
    boxes.forEach((box) => box.addEventListener("change", paint));
    views.forEach((radio) => radio.addEventListener("change", turn));
    byId("opacity").addEventListener("input", paint);
    byId("all").addEventListener("click", () => all(true));
    byId("none").addEventListener("click", () => all(false));
    addEventListener("hashchange", () => { address(); paint(); turn(); });
    turn();
    paint();
  }

  function place(found) {
    const [x, y, z] = found.mm;
    const side = (value, more, less) => Math.abs(value).toFixed(1) + " " + (value < 0 ? less : more);
    const label = Math.round(found.values[1]?.value ?? 0);
    const name = data.classes.find((item) => item.value === label)?.name ?? "none";
    byId("cross").textContent = [side(x, "R", "L"), side(y, "A", "P"), side(z, "S", "I")].join(", ") + " mm: " + name;
  }
})();
