"""RAP-SAM's answers to the prompts of a fixture, under the names that the fixture uses."""

from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from samvideo.networks.rap_sam import RapSam

Arrays = dict[str, np.ndarray]


def run(network: RapSam, fixture: Arrays, prompts: dict[str, Any], seeded: ModuleType) -> Arrays:
    out={}
    MEAN=torch.tensor([123.675, 116.28, 103.53])[:,None,None]; STD=torch.tensor([58.395, 57.12, 57.375])[:,None,None]
    def enc(rgb):
        x=(torch.from_numpy(rgb).permute(2,0,1).float()-MEAN)/STD
        h,w=rgb.shape[:2]
        x=F.pad(x,(0,-w%32,0,-h%32))[None]
        return x,network(x)
    def boxes(p,sx,sy,h,w):
        b=[[int(x*sx)-3,int(y*sy)-3,int(x*sx)+3,int(y*sy)+3] for x,y in p['points']]
        x=p['box']; b.append([x[0]*sx,x[1]*sy,x[2]*sx,x[3]*sy])
        b=torch.tensor(b,dtype=torch.float32)/torch.tensor([w,h,w,h])
        return torch.cat([(b[:,:2]+b[:,2:])/2, b[:,2:]-b[:,:2]],1)
    p=prompts['square']
    x,f=enc(seeded.picture(p['frame'],p['size']))
    out['square/neck']=f[0,::16,::8,::8].numpy()
    st=network.decoder.panoptic(f,torch.from_numpy(seeded.rap_sam_classes()))
    for i,s in enumerate(st):
        k=f'square/panoptic/stage{i}/'
        out[k+'classes']=s.classes_bnk[0,::9,::7].numpy();out[k+'masks']=s.logits_bnhw[0,::33,::8,::8].numpy()
        out[k+'iou']=s.quality_bn[0].numpy(); out[k+'area']=(s.logits_bnhw[0]>0).sum((1,2)).numpy()
    out['square/panoptic/queries']=st[-1].queries_bnc[0,::9,::4].numpy()
    st=network.decoder.prompted(f,boxes(p,2,2,512,512))
    for i,s in enumerate(st):
        k=f'square/prompts/stage{i}/'; e=2 if i==3 else 4
        out[k+'low_res']=s.logits_bnhw[0,:,::e,::e].numpy()
        out[k+'iou']=s.quality_bn[0].numpy(); out[k+'area']=(s.logits_bnhw[0]>0).sum((1,2)).numpy()
    p=prompts['wide']
    rgb=seeded.picture(p['frame'],p['size'],p['crop']); H,W=rgb.shape[:2]
    sc=min(1333/max(H,W),800/min(H,W)); w,h=int(W*sc+.5),int(H*sc+.5)
    x,f=enc(cv2.resize(rgb,(w,h),interpolation=cv2.INTER_LINEAR))
    out['wide/size']=np.array([h,w,*x.shape[2:]])
    out['wide/input']=x[0,:,3::23,3::23].numpy()
    s=network.decoder.prompted(f,boxes(p,w/W,h/H,h,w))[-1]
    m=F.interpolate(s.logits_bnhw,x.shape[2:],mode='bilinear',align_corners=False)[...,:h,:w]
    m=F.interpolate(m,(H,W),mode='bilinear',align_corners=False)
    out['wide/prompts/logits']=m[0,:,::9,::9].numpy();out['wide/prompts/area']=(m[0]>0).sum((1,2)).numpy();out['wide/prompts/iou']=s.quality_bn[0].numpy()
    return out
