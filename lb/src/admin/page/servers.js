
// Adds and removes servers of the pool `default`, in two dialogs of the page. The dialog shows a refusal and stays open.

let leaving = null;  // the id of the server to remove

/** The two buttons belong to the pool that `/add` and `/rm` are about. */
const hasServers = pool => pool.name === 'default';

/** Shows a failure in the dialog, or as a toast if the dialog was closed meanwhile. */
function failedIn(dialog, place) {
  return sentence => { if (dialog.open) text(place, sentence); else toast(sentence, true); };
}

function openAdd() {
  text($('add-error'), '');
  showWay();
  $('add').showModal();
}

/** Shows the fields of the chosen way. Hidden fields are disabled, so that they need no value. */
function showWay() {
  const way = $('add-form').elements.way.value;
  for (const name of ['attach', 'launch']) {
    $('add-' + name).hidden = way !== name;
    $('add-' + name).disabled = way !== name;
  }
}

function openRemove(backend) {
  leaving = backend.id;
  text($('remove-title'), `Remove ${backend.id}?`);
  text($('remove-address'), `${backend.address} · ${backend.origin}`);
  text($('remove-error'), '');
  $('remove').showModal();
}

/** The body of `/add` as the form has it, and the sentence for success. */
function additions(fields) {
  if (fields.way.value === 'attach') {
    const id = fields.id.value.trim();
    return [{ backends: [{ id, address: fields.address.value.trim(), weight: fields.weight.valueAsNumber }] }, `${id} is attached`];
  }
  const n = fields.n.valueAsNumber, hostnames = fields.names.value.split(',').map(name => name.trim()).filter(Boolean);
  return [{ n, hostnames }, `${n} server${n === 1 ? ' is' : 's are'} launched`];
}

$('add-form').addEventListener('change', showWay);
$('add-form').addEventListener('submit', async event => {
  event.preventDefault();
  text($('add-error'), '');
  const [body, done] = additions($('add-form').elements);
  if (!await act($('add-go'), '/add', body, done, { failed: failedIn($('add'), $('add-error')) })) return;
  $('add-form').reset();
  $('add').close();
});
$('remove-form').addEventListener('submit', async event => {
  event.preventDefault();
  text($('remove-error'), '');
  const id = leaving, body = { n: 1, hostnames: [id] };
  const ok = await act($('remove-go'), '/rm', body, `${id} is removed`, { method: 'DELETE', failed: failedIn($('remove'), $('remove-error')) });
  if (ok) $('remove').close();
});
for (const name of ['add', 'remove']) $(name + '-cancel').addEventListener('click', () => $(name).close());
