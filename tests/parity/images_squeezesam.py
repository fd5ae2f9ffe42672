"""SqueezeSAM's answers to the prompts of a fixture, under the names that the fixture uses."""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from samvideo.networks.squeeze_sam import SqueezeSam

Arrays = dict[str, np.ndarray]


def run(network: SqueezeSam, fixture: Arrays, prompts: dict[str, Any], seeded: ModuleType) -> Arrays:
    """Compute every entry of `squeezesam--prompts.npz`."""
    import torch.nn.functional as F
    from samvideo.networks.squeeze_sam import draw_prompts
    from samvideo.tensors import PromptTensors
    out={}
    def one(rgb,p,scale=1):
        h,w=rgb.shape[:2]
        x=torch.from_numpy(rgb).permute(2,0,1)[None]/255
        x=F.interpolate(x,(512,512),mode='bilinear',align_corners=False)
        x=(x-torch.tensor([.485,.456,.406])[:,None,None])/torch.tensor([.229,.224,.225])[:,None,None]
        xy=p.get('points',[]); l=p.get('labels',[])
        if 'box' in p: xy=[p['box'][:2],p['box'][2:]]+xy; l=[2,3]+l
        xy=torch.tensor(xy,dtype=torch.float32)[None]*scale*torch.tensor([512/w,512/h])
        d=draw_prompts(PromptTensors(xy,torch.tensor([l])),(512,512))
        x=torch.cat([x,d],1)
        m,q=network(x)
        return x[0],m,q[0].numpy()
    rgb=seeded.picture(prompts['square']['frame'],512)
    for n,p in prompts['square']['prompts'].items():
        k=f'square/{n}/'
        if k+'iou' not in fixture: continue
        x,m,q=one(rgb,p,2)
        out[k+'low_res']=m[0,:,::5,::5].numpy(); out[k+'area']=(m[0]>0).sum((1,2)).numpy(); out[k+'iou']=q
        out[k+'prompt_area']=x[3:].sum((1,2)).numpy().astype(int)
    rgb=seeded.picture(*prompts['wide']['picture'])
    for n,p in prompts['wide']['prompts'].items():
        k=f'wide/{n}/'
        x,m,q=one(rgb,p)
        m=F.interpolate(m,rgb.shape[:2],mode='bicubic',align_corners=False)
        out[k+'logits']=m[0,:,::17,::17].numpy(); out[k+'area']=(m[0]>0).sum((1,2)).numpy(); out[k+'iou']=q
        c=x[:,3::23,3::23].numpy()
        print(n, np.abs(c-fixture['wide/input']).max((1,2)))
        if n=='click' : out['wide/input']=c
    return out
